package local

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sidevault/sidevault/api/mcp"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/suggest"
)

// checkAudit holds filters of the audit log to the names that there are: one with a
// slip in it would find nothing, which reads as that nothing happened.
func (p port) checkAudit(q mcp.AuditQuery, in *vault.AuditQuery) error {
	if err := known("action", q.Action, vault.Actions()); err != nil {
		return err
	}
	if err := known("outcome", q.Outcome, vault.Outcomes()); err != nil {
		return err
	}
	if _, err := p.scope(q.Environment); err != nil {
		return err
	}
	if q.Cursor == "" {
		return nil
	}
	before, err := strconv.ParseUint(q.Cursor, 10, 63)
	if err != nil || before == 0 {
		return invalid("cursor is not one of ours", "give nextCursor as it was")
	}
	in.Before = before
	return nil
}

func known(what, given string, names []string) error {
	if given == "" || slices.Contains(names, given) {
		return nil
	}
	return invalid(what+" is unknown"+suggest.Hint(given, names), "it is one of: "+strings.Join(names, ", "))
}

func invalid(msg, details string) error {
	return &vault.Error{Kind: vault.InvalidRequest, Msg: msg, Details: details}
}
