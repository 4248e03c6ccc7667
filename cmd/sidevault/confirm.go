package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
)

// consent is how a person agrees to a change in a protected environment.
type consent struct{ yes bool }

func (o *consent) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask where a protected environment is concerned; required where nobody can be asked")
}

// ask asks before a command changes, or reads out, environments of which some are
// protected.
func (o *consent) ask(sh *shell, protected []string, what string) error {
	if o.yes || len(protected) == 0 {
		return nil
	}
	names := oneLine(strings.Join(protected, ", "))
	if !isTerminal(sh.in) || !isTerminal(sh.err) {
		return usagef("%s is protected, and nobody can be asked here; nothing was changed", names).hinted("add --yes to %s", what)
	}
	fmt.Fprintf(sh.err, "%s is protected. Type its name to go on: ", names)
	answer, err := readLine(sh.in)
	if err != nil || strings.TrimSpace(answer) != names {
		return failf(exitError, "not confirmed; nothing was changed")
	}
	return nil
}

// maxAnswer is more than any answer has.
const maxAnswer = 4 << 10

func readLine(r io.Reader) (string, error) {
	return bufio.NewReader(io.LimitReader(r, maxAnswer)).ReadString('\n')
}

// protectedAmong returns which of the scopes are protected environments.
func protectedAmong(ctx context.Context, c *client.Client, scopes ...*string) ([]string, error) {
	list, err := c.Environments(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list.Data {
		named := func(s *string) bool { return s != nil && *s == e.Name }
		if e.Protected && slices.ContainsFunc(scopes, named) {
			names = append(names, e.Name)
		}
	}
	return names, nil
}
