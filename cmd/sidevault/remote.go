package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault/secret"
)

// Variables of the commands that talk to a sidecar.
const (
	addrVariable      = variablePrefix + "ADDR"
	tokenVariable     = variablePrefix + "TOKEN"
	tokenFileVariable = variablePrefix + "TOKEN_FILE"
)

const (
	addrFlag      = "addr"
	tokenFileFlag = "token-file"
)

const maxTokenFile = 8 << 10

// remote is the sidecar that a command talks to.
type remote struct {
	sh        *shell
	addr      string
	tokenFile string
}

// addFlags declares the flags. A token is never one: arguments can be seen by
// every user of the machine.
func (r *remote) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.addr, addrFlag, "", "`address` of the sidecar, default "+client.DefaultAddress+" ("+addrVariable+")")
	cmd.Flags().StringVar(&r.tokenFile, tokenFileFlag, "", "`file` with the API key ("+tokenFileVariable+"; the key itself in "+tokenVariable+")")
}

// client returns a client of the sidecar.
func (r *remote) client() (*client.Client, error) {
	token, err := r.token()
	if err != nil {
		return nil, err
	}
	return r.connect(token, client.Options{})
}

// pluginPatience is how long a call may take that waits for plugins, each of which
// may take a minute.
const pluginPatience = 10 * time.Minute

// patient returns a client for calls that wait for plugins.
func (r *remote) patient() (*client.Client, error) {
	token, err := r.token()
	if err != nil {
		return nil, err
	}
	return r.connect(token, client.Options{Timeout: pluginPatience})
}

func (r *remote) connect(token secret.Value, o client.Options) (*client.Client, error) {
	if o.UserAgent == "" {
		o.UserAgent = wire.CLIAgent + version()
	}
	c, err := client.New(client.Config{Address: r.address(), Token: token, Options: o})
	if err != nil {
		return nil, usagef("%s", err).hinted("--addr or %s names the sidecar, as in %s; %s holds the API key", addrVariable, client.DefaultAddress, tokenVariable)
	}
	return c, nil
}

func (r *remote) address() string {
	for _, a := range []string{r.addr, r.sh.getenv(addrVariable)} {
		if a != "" {
			return a
		}
	}
	return client.DefaultAddress
}

// token reads the API key: from --token-file, the variable, or the file that the
// other variable names.
func (r *remote) token() (secret.Value, error) {
	path := r.tokenFile
	if path == "" {
		if t := r.sh.getenv(tokenVariable); t != "" {
			return secret.New(strings.TrimSpace(t)), nil
		}
		path = r.sh.getenv(tokenFileVariable)
	}
	if path == "" {
		return secret.Value{}, failf(exitDenied, "no API key is given").
			hinted("put it into %s, or the path of a file with it into %s", tokenVariable, tokenFileVariable)
	}
	data, err := readBounded(path, maxTokenFile)
	if err != nil {
		f := failf(exitDenied, "read the API key").because(err)
		if errors.Is(err, fs.ErrNotExist) {
			f.hint = fmt.Sprintf("--token-file or %s names the file; %q makes a new key", tokenFileVariable, "sidevault key create --data-dir DIR")
		}
		return secret.Value{}, f
	}
	defer clear(data)
	return secret.New(strings.TrimSpace(string(data))), nil
}

// slotFlags name a slot beside its integration.
type slotFlags struct{ environment, name string }

const environmentFlag = "environment"

func (s *slotFlags) addFlags(cmd *cobra.Command, r *remote) {
	cmd.Flags().StringVarP(&s.environment, environmentFlag, "e", "", "`environment`; without it, what all environments share")
	cmd.Flags().StringVar(&s.name, "name", "", "`name` of the credential, default \"default\"")
	completeEnvironments(cmd, r)
}

func (s *slotFlags) slot(cmd *cobra.Command, integration string) client.Slot {
	return client.Slot{Integration: integration, Environment: s.scope(cmd), Name: s.name}
}

// scope returns the environment, nil when none is given. An empty one is passed
// on, for the sidecar to refuse: it must not come to mean all environments.
func (s *slotFlags) scope(cmd *cobra.Command) *string {
	if !cmd.Flags().Changed(environmentFlag) {
		return nil
	}
	return &s.environment
}

func describe(integration string, environment *string, name string) string {
	text := integration + " in " + showScope(environment)
	if name != "" && name != "default" {
		text += fmt.Sprintf(" (name %q)", name)
	}
	return oneLine(text)
}

// parseExpiry reads a time, or how long from now.
func parseExpiry(s string) (time.Time, error) { return parseTime("--expires", s, 1) }

// parseTime reads an RFC 3339 time, or a duration into the future (1) or the past
// (-1). "" is the zero time.
func parseTime(flag, s string, direction int) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return time.Now().Add(time.Duration(direction) * d), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, usagef("%s %q is neither a duration, as in 720h, nor a time, as in 2027-01-31T00:00:00Z", flag, s)
	}
	return at, nil
}

const completionTimeout = 300 * time.Millisecond

// completer asks the sidecar for words to complete with. Whatever goes wrong,
// there are none.
func (r *remote) completer(words func(context.Context, *client.Client) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		token, err := r.token()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := r.connect(token, client.Options{Timeout: completionTimeout, Retries: -1})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return words(cmd.Context(), c), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeEnvironments completes the flag for environments.
func completeEnvironments(cmd *cobra.Command, r *remote) {
	complete := r.completer(func(ctx context.Context, c *client.Client) (names []string) {
		list, _ := c.Environments(ctx)
		for _, e := range list.Data {
			names = append(names, e.Name)
		}
		return names
	})
	if err := cmd.RegisterFlagCompletionFunc(environmentFlag, complete); err != nil {
		panic(err) // the flag is not declared
	}
}

// completeIntegrations completes the first argument.
func completeIntegrations(cmd *cobra.Command, r *remote) {
	complete := r.completer(func(ctx context.Context, c *client.Client) (keys []string) {
		list, _ := c.Integrations(ctx, client.IntegrationFilter{})
		for _, i := range list.Data {
			keys = append(keys, cobra.CompletionWithDesc(i.ID, i.Name))
		}
		return keys
	})
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, word)
	}
}
