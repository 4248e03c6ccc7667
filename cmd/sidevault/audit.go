package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault"
)

func newAuditCommand(sh *shell) *cobra.Command {
	return group("audit", "Read and verify the audit log", newAuditListCommand(sh), newAuditVerifyCommand(sh))
}

type auditListOptions struct {
	remote
	slotFlags
	query        client.AuditQuery
	since, until string
	limit        int
	form         output
}

func newAuditListCommand(sh *shell) *cobra.Command {
	o := auditListOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List audit entries, newest first",
		Args:  operands(),
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	flags := cmd.Flags()
	o.remote.addFlags(cmd)
	flags.StringVarP(&o.environment, environmentFlag, "e", "", "only those about this `environment`")
	flags.StringVar(&o.query.Action, "action", "", "only this `action`, as in "+vault.ActionRead)
	flags.StringVar(&o.query.Integration, "integration", "", "only those about this `integration`")
	flags.StringVar(&o.query.Actor, "actor", "", "only those of the caller with this `ID`")
	flags.StringVar(&o.query.Outcome, "outcome", "", "only this `outcome`: success, or an error's code in lower case")
	flags.StringVar(&o.since, "since", "", "only those since `then`: a duration back, as in 24h, or an RFC 3339 time")
	flags.StringVar(&o.until, "until", "", "only those before `then`")
	flags.IntVar(&o.limit, "limit", 50, "at most so `many`")
	addOutputFlags(cmd, &o.form)
	completeEnvironments(cmd, &o.remote)
	return cmd
}

func (o *auditListOptions) run(cmd *cobra.Command) (err error) {
	if o.limit < 1 {
		return usagef("--limit is 1 or more")
	}
	if o.query.Since, err = parseTime("--since", o.since, -1); err != nil {
		return err
	}
	if o.query.Until, err = parseTime("--until", o.until, -1); err != nil {
		return err
	}
	o.query.Environment = o.scope(cmd)
	c, err := o.client()
	if err != nil {
		return err
	}
	entries, err := o.collect(cmd, c)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, entries)
	}
	return printEntries(o.sh, entries)
}

// maxAuditPage is what a sidecar returns at most.
const maxAuditPage = 500

func (o *auditListOptions) collect(cmd *cobra.Command, c *client.Client) ([]wire.AuditEntry, error) {
	entries := []wire.AuditEntry{}
	bar := newBar(o.sh, "Reading the audit log")
	defer bar.end()
	for {
		bar.set(len(entries), o.limit)
		o.query.Limit = min(o.limit-len(entries), maxAuditPage)
		page, err := c.Audit(cmd.Context(), o.query)
		if err != nil {
			return nil, err
		}
		entries = append(entries, page.Data...)
		o.query.Cursor = page.NextCursor
		if page.NextCursor == "" || len(entries) >= o.limit {
			return entries, nil
		}
	}
}

func printEntries(sh *shell, entries []wire.AuditEntry) error {
	var rows [][]string
	for _, e := range entries {
		rows = append(rows, []string{
			fmt.Sprint(e.Seq), showTime(&e.Time), e.Actor.Name, e.Action, e.Outcome, target(e), e.Source, notes(e.Metadata),
		})
	}
	return printTable(sh.out, []string{"SEQ", "TIME", "ACTOR", "ACTION", "OUTCOME", "TARGET", "SOURCE", "NOTES"}, rows)
}

func target(e wire.AuditEntry) string {
	if e.TargetType == "integration" && e.TargetID != "" && e.Name != "" {
		return describe(e.TargetID, e.Environment, e.Name)
	}
	return strings.TrimSpace(e.TargetType + " " + e.TargetID)
}

// notes prints metadata in the order of its names.
func notes(m map[string]any) string {
	text := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(m), "map["), "]")
	return strings.ReplaceAll(text, "<nil>", "null")
}

type auditVerifyOptions struct {
	remote
	form output
}

func newAuditVerifyCommand(sh *shell) *cobra.Command {
	o := auditVerifyOptions{remote: remote{sh: sh}}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Walk the audit log's chain and name the first broken entry",
		Long: `Walk the audit log's chain. It is intact, or the first broken entry is named and
the exit code is 1. With --data-dir or --backend the storage itself is read, a file of
a sidecar that is stopped or one that hosts share, and nothing is written. Keep the
head that is printed elsewhere: it proves later that nothing before it was rewritten.`,
		Args: operands(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	o.remote.addFlags(cmd)
	addSettings(cmd.Flags(), "data-dir", backendKey, backendFileKey)
	addOutputFlags(cmd, &o.form)
	return cmd
}

func (o *auditVerifyOptions) run(cmd *cobra.Command) error {
	verify := o.verifyRemote
	if namesStorage(cmd.Flags()) {
		verify = o.verifyOffline
	}
	head, err := verify(cmd)
	if err != nil {
		return err
	}
	if o.form.forPrograms() {
		err = o.form.print(o.sh.out, head)
	} else {
		err = printHead(o.sh, head)
	}
	if err == nil && head.Intact != nil && !*head.Intact {
		return failf(exitError, "the audit log is broken at entry %d", head.BrokenAt).
			hinted("keep a copy of the storage for investigation, and compare with a backup")
	}
	return err
}

func (o *auditVerifyOptions) verifyRemote(cmd *cobra.Command) (wire.AuditHead, error) {
	c, err := o.patient()
	if err != nil {
		return wire.AuditHead{}, err
	}
	defer waiting(o.sh, "The sidecar walks its audit log")()
	head, err := c.AuditHead(cmd.Context(), true)
	return head.Data, err
}

func (o *auditVerifyOptions) verifyOffline(cmd *cobra.Command) (wire.AuditHead, error) {
	cfg, err := loadSettings(cmd.Flags(), o.sh)
	if err != nil {
		return wire.AuditHead{}, err
	}
	if !cfg.Storage.shared() {
		// The chain of a shared storage is proved from any host.
		if err := checkDataDir(cfg.DataDir); err != nil {
			return wire.AuditHead{}, err
		}
	}
	backend, err := openStorage(cmd.Context(), cfg.Storage, open.Options{ReadOnly: true})
	if err != nil {
		return wire.AuditHead{}, err
	}
	defer backend.Close()
	bar := newBar(o.sh, "Verifying")
	defer bar.end()
	verdict, err := vault.VerifyChain(cmd.Context(), backend, func(done, total uint64) { bar.set(int(done), int(total)) })
	intact := verdict.Broken == 0
	return wire.AuditHead{
		Seq: verdict.Head.Seq, Hash: verdict.Head.Hash.String(), Intact: &intact, BrokenAt: verdict.Broken, Reason: verdict.Reason,
	}, err
}

func printHead(sh *shell, head wire.AuditHead) error {
	verdict := "intact"
	if head.Intact == nil || !*head.Intact {
		verdict = fmt.Sprintf("broken at entry %d: %s", head.BrokenAt, head.Reason)
	}
	return printPairs(sh.out, "chain", verdict, "entries", fmt.Sprint(head.Seq), "head", head.Hash,
		"verified", time.Now().UTC().Format(time.RFC3339))
}
