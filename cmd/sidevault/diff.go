package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

type diffOptions struct {
	remote
	exitCode bool
	all      bool
	form     output
}

func newDiffCommand(sh *shell) *cobra.Command {
	o := diffOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "diff ENVIRONMENT ENVIRONMENT",
		Short: "Show what is set in one environment and not in another",
		Long: `Show which credentials two environments have: version and age of each, where one is
missing, and where an environment falls back to its parents' or the shared one. What
all environments share is called @shared. Values are neither shown nor compared: that
two are the same would tell something about them.`,
		Example: "  sidevault diff staging production",
		Args:    operands("ENVIRONMENT", "ENVIRONMENT"),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1]) },
	}
	o.remote.addFlags(cmd)
	cmd.Flags().BoolVar(&o.all, "all", false, "show what does not differ, too")
	cmd.Flags().BoolVar(&o.exitCode, "exit-code", false, "end with code 1 where the two differ")
	addOutputFlags(cmd, &o.form)
	return cmd
}

// diffRow is one credential in two environments.
type diffRow struct {
	IntegrationID string   `json:"integrationId"`
	Name          string   `json:"name"`
	Left          diffSide `json:"left"`
	Right         diffSide `json:"right"`
	Difference    string   `json:"difference,omitempty"`
}

// diffSide is what an environment resolves to.
type diffSide struct {
	Environment string     `json:"environment"`
	Set         bool       `json:"set"`            // by the environment itself
	From        string     `json:"from,omitempty"` // where it falls back to
	Status      string     `json:"status,omitempty"`
	Version     uint64     `json:"version,omitempty"`
	AuthType    string     `json:"authType,omitempty"`
	UpdatedAt   *wire.Time `json:"updatedAt,omitempty"`
	ExpiresAt   *wire.Time `json:"expiresAt,omitempty"`
}

// diffSlot is a credential's place but for its environment.
type diffSlot struct{ integration, name string }

// placedCredentials are credentials by place and by environment, @shared among them.
type placedCredentials map[diffSlot]map[string]wire.Credential

func (o *diffOptions) run(cmd *cobra.Command, left, right string) error {
	c, err := o.client()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	chains, err := environmentChains(ctx, c, left, right)
	if err != nil {
		return err
	}
	placed, err := allCredentials(ctx, c)
	if err != nil {
		return err
	}
	rows, differ := []diffRow{}, 0
	for slot, by := range placed {
		row := diffRow{IntegrationID: slot.integration, Name: slot.name, Left: sideOf(by, chains[0]), Right: sideOf(by, chains[1])}
		row.Difference = row.differ()
		if row.Difference != "" {
			differ++
		}
		if row.Left.found() || row.Right.found() {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b diffRow) int {
		return cmp.Or(cmp.Compare(a.IntegrationID, b.IntegrationID), cmp.Compare(a.Name, b.Name))
	})
	if !o.all {
		rows = slices.DeleteFunc(rows, func(r diffRow) bool { return r.Difference == "" })
	}
	if err := o.tell(rows, left, right); err != nil {
		return err
	}
	if o.exitCode && differ > 0 {
		return failf(exitError, "%s and %s differ in %s", left, right, counted(uint64(differ), "credential"))
	}
	return nil
}

// environmentChains returns where each of the environments looks, itself first.
func environmentChains(ctx context.Context, c *client.Client, names ...string) ([][]string, error) {
	list, err := c.Environments(ctx)
	if err != nil {
		return nil, err
	}
	parents, known := map[string]string{}, []string{sharedName}
	for _, e := range list.Data {
		known = append(known, e.Name)
		if parents[e.Name] = sharedName; e.Parent != nil {
			parents[e.Name] = *e.Parent
		}
	}
	var chains [][]string
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, usagef("there is no environment %q, or the API key may not use it", name).
				hinted("it may use: %s", strings.Join(known[1:], ", "))
		}
		var chain []string
		for at := name; at != "" && len(chain) <= len(known); at = parents[at] {
			chain = append(chain, at)
		}
		chains = append(chains, chain)
	}
	return chains, nil
}

func allCredentials(ctx context.Context, c *client.Client) (placedCredentials, error) {
	placed := placedCredentials{}
	for cred, err := range c.List(ctx, client.CredentialFilter{PageSize: maxPage}) {
		if err != nil {
			return nil, err
		}
		slot, scope := diffSlot{cred.IntegrationID, cred.Name}, sharedName
		if cred.Environment != nil {
			scope = *cred.Environment
		}
		if placed[slot] == nil {
			placed[slot] = map[string]wire.Credential{}
		}
		placed[slot][scope] = cred
	}
	return placed, nil
}

// sideOf returns what the first of a chain resolves to.
func sideOf(by map[string]wire.Credential, chain []string) diffSide {
	side := diffSide{Environment: chain[0]}
	for i, name := range chain {
		cred, ok := by[name]
		if !ok {
			continue
		}
		if side.Set = i == 0; !side.Set {
			side.From = name
		}
		side.Status, side.Version, side.AuthType = cred.Status, cred.Version, cred.AuthType
		side.UpdatedAt, side.ExpiresAt = &cred.UpdatedAt, cred.ExpiresAt
		return side
	}
	return side
}

func (s diffSide) found() bool { return s.Set || s.From != "" }

// show tells a side in a cell.
func (s diffSide) show(now time.Time) string {
	if !s.found() {
		return "missing"
	}
	text := fmt.Sprintf("version %d, %s old", s.Version, showAge(now.Sub(time.Time(*s.UpdatedAt))))
	if s.Status != "active" {
		text += ", " + s.Status
	}
	if !s.Set {
		text += ", from " + s.From
	}
	return text
}

// differ says in what the sides differ. Versions count changes, so that they say
// nothing about each other.
func (r diffRow) differ() string {
	l, right := r.Left, r.Right
	switch {
	case l.found() != right.found():
		return "only in " + map[bool]string{true: l.Environment, false: right.Environment}[l.found()]
	case l.Set != right.Set && l.Set:
		return right.Environment + " falls back to " + right.From
	case l.Set != right.Set:
		return l.Environment + " falls back to " + l.From
	case l.From != right.From:
		return "they fall back to different ones"
	case l.Status != right.Status:
		return "one is " + l.Status + ", the other " + right.Status
	case l.AuthType != right.AuthType:
		return "the auth types differ"
	}
	return ""
}

// showAge rounds an age to its largest unit.
func showAge(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", max(0, d/time.Second))
}

func (o *diffOptions) tell(rows []diffRow, left, right string) error {
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, rows)
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintf(o.sh.out, "%s and %s have the same credentials set.\n", left, right)
		return err
	}
	now := time.Now()
	var cells [][]string
	for _, r := range rows {
		cells = append(cells, []string{r.IntegrationID, r.Name, r.Left.show(now), r.Right.show(now), r.Difference})
	}
	return printTable(o.sh.out, []string{"INTEGRATION", "NAME", strings.ToUpper(left), strings.ToUpper(right), "DIFFERENCE"}, cells)
}
