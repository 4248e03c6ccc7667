package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
)

// completeAll completes, in every command that talks to a sidecar, the arguments and
// flags that name something of it, as far as the command does not do so itself.
func completeAll(cmd *cobra.Command, sh *shell) {
	for _, sub := range cmd.Commands() {
		completeAll(sub, sh)
	}
	if cmd.Flags().Lookup(addrFlag) == nil {
		return
	}
	for flag, words := range map[string]wordsOf{
		environmentFlag: environmentWords, "from": environmentWords, "to": environmentWords,
		"integration": integrationWords, "name": nameWords, "credential": choiceWords,
	} {
		_, done := cmd.GetFlagCompletionFunc(flag)
		if cmd.Flags().Lookup(flag) == nil || done || flag == "name" && !namesCredential(cmd) {
			continue
		}
		if err := cmd.RegisterFlagCompletionFunc(flag, completeWith(sh, words)); err != nil {
			panic(err) // the flag is not declared
		}
	}
	if words := operandWords(cmd); words != nil && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = completeWith(sh, words)
	}
}

// namesCredential reports whether --name is the name of a credential that there is.
func namesCredential(cmd *cobra.Command) bool {
	return cmd.Name() != "create" && cmd.Name() != "update"
}

// operandWords returns the words for what a command's line says that it takes.
func operandWords(cmd *cobra.Command) wordsOf {
	_, takes, _ := strings.Cut(cmd.Use, " ")
	first := strings.Trim(takes, "[]")
	switch {
	case strings.HasPrefix(first, "ID") && cmd.HasParent() && cmd.Parent().Name() == "key":
		return onlyFirst(keyWords)
	case strings.HasPrefix(first, "ID"):
		return onlyFirst(idWords)
	case strings.HasPrefix(first, "INTEGRATION..."):
		return integrationWords
	case strings.HasPrefix(first, "INTEGRATION"):
		return onlyFirst(integrationWords)
	case strings.HasPrefix(first, "ENVIRONMENT"), strings.HasPrefix(first, "NAME..."):
		return environmentWords
	}
	return nil
}

// wordsOf asks a sidecar for words, given the arguments before the one to complete.
type wordsOf func(ctx context.Context, c *client.Client, args []string) []cobra.Completion

func onlyFirst(words wordsOf) wordsOf {
	return func(ctx context.Context, c *client.Client, args []string) []cobra.Completion {
		if len(args) > 0 {
			return nil
		}
		return words(ctx, c, args)
	}
}

// completeWith asks the sidecar that the line's own flags name.
func completeWith(sh *shell, words wordsOf) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		r := remote{sh: sh, addr: cmd.Flag(addrFlag).Value.String(), tokenFile: cmd.Flag(tokenFileFlag).Value.String()}
		complete := r.completer(func(ctx context.Context, c *client.Client) []string { return words(ctx, c, args) })
		return complete(cmd, args, word)
	}
}

func environmentWords(ctx context.Context, c *client.Client, _ []string) (words []cobra.Completion) {
	list, _ := c.Environments(ctx)
	for _, e := range list.Data {
		words = append(words, e.Name)
	}
	return words
}

func integrationWords(ctx context.Context, c *client.Client, _ []string) (words []cobra.Completion) {
	list, _ := c.Integrations(ctx, client.IntegrationFilter{})
	for _, i := range list.Data {
		words = append(words, cobra.CompletionWithDesc(i.ID, oneLine(i.Name)))
	}
	return words
}

func keyWords(ctx context.Context, c *client.Client, _ []string) (words []cobra.Completion) {
	list, _ := c.Keys(ctx)
	for _, k := range list.Data {
		if k.RevokedAt == nil {
			words = append(words, cobra.CompletionWithDesc(k.ID, oneLine(k.Name)))
		}
	}
	return words
}

func idWords(ctx context.Context, c *client.Client, _ []string) []cobra.Completion {
	return credentialWords(ctx, c, client.CredentialFilter{}, func(_ choice, id, place string) cobra.Completion {
		return cobra.CompletionWithDesc(id, place)
	})
}

func choiceWords(ctx context.Context, c *client.Client, _ []string) []cobra.Completion {
	return credentialWords(ctx, c, client.CredentialFilter{}, func(ch choice, _, _ string) cobra.Completion { return ch.String() })
}

// nameWords are the names that credentials have, of the integration where one is given.
func nameWords(ctx context.Context, c *client.Client, args []string) []cobra.Completion {
	var f client.CredentialFilter
	if len(args) > 0 {
		f.Integration = args[0]
	}
	return credentialWords(ctx, c, f, func(ch choice, _, _ string) cobra.Completion { return ch.name })
}

// credentialWords makes a word of each credential of one page, each word once.
func credentialWords(ctx context.Context, c *client.Client, f client.CredentialFilter, word func(ch choice, id, place string) cobra.Completion) []cobra.Completion {
	var words []cobra.Completion
	seen := map[cobra.Completion]bool{}
	f.PageSize = maxPage
	n := 0
	for cred, err := range c.List(ctx, f) {
		if n++; err != nil || n > maxPage {
			break
		}
		w := word(choice{cred.IntegrationID, cred.Name}, cred.ID, describe(cred.IntegrationID, cred.Environment, cred.Name))
		if !seen[w] {
			words = append(words, w)
		}
		seen[w] = true
	}
	return words
}
