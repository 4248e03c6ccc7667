package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault/secret"
)

// What becomes of a credential that is imported or copied.
const (
	changeCreate    = "create"
	changeRotate    = "rotate"
	changeUnchanged = "unchanged"
	changeSkip      = "skip"
)

// change is one credential to be set, with its secret.
type change struct {
	Line          int     `json:"line,omitempty"`
	Source        string  `json:"source,omitempty"`
	IntegrationID string  `json:"integrationId,omitempty"`
	Environment   *string `json:"environment"`
	Name          string  `json:"name,omitempty"`
	Change        string  `json:"change"`
	Why           string  `json:"why,omitempty"`
	Version       uint64  `json:"version,omitempty"` // once it is done
	Done          bool    `json:"done"`

	in   client.SetInput
	etag string // of what is there
}

func (c *change) slot() client.Slot {
	return client.Slot{Integration: c.IntegrationID, Environment: c.Environment, Name: c.Name}
}

func (c *change) wanted() bool { return c.Change == changeCreate || c.Change == changeRotate }

// label names the change in a message.
func (c *change) label() string {
	place := describe(c.IntegrationID, c.Environment, c.Name)
	if c.Line == 0 {
		return place
	}
	return fmt.Sprintf("line %d: %s, %s", c.Line, oneLine(c.Source), place)
}

// changes are made together: all are looked at and checked before the first is made.
type changes struct {
	sh    *shell
	c     *client.Client
	what  string // "Importing"
	again string // the command line's beginning, to go on with
	list  []*change
}

// prepare compares every credential with what is set, and has the sidecar check those
// that differ, its validators too. What it refuses is one error.
func (cs *changes) prepare(ctx context.Context) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	bar := newBar(cs.sh, "Checking")
	defer bar.end()
	var no refusedChanges
	for i, c := range cs.list {
		bar.set(i, len(cs.list))
		if c.Change == changeSkip {
			continue
		}
		err := cs.check(ctx, c)
		if ctx.Err() != nil {
			return failf(exitError, "interrupted; nothing was changed")
		}
		if err != nil && !isRefusal(err) {
			return err
		}
		if err != nil {
			no.add(c.label(), explain(err))
		}
	}
	return no.err(len(cs.list))
}

// refusedChanges collects which of several credentials a sidecar refuses, and why.
type refusedChanges struct {
	list   []error
	denied *failure // the first of those that the caller may not set
}

func (r *refusedChanges) add(what string, f *failure) {
	r.list = append(r.list, fmt.Errorf("%s: %s", what, f.msg))
	if r.denied == nil && f.code == exitDenied {
		r.denied = f
	}
}

// err returns what was refused as one error, of the kind of a denial if one is among it.
func (r *refusedChanges) err(of int) error {
	if len(r.list) == 0 {
		return nil
	}
	f := usagef("nothing was changed, since %d of %d cannot be set", len(r.list), of).because(fmt.Errorf("\n%w", errors.Join(r.list...)))
	if r.denied != nil {
		f.code, f.hint = r.denied.code, r.denied.hint
	}
	return f
}

// check compares a credential with what is set and, when it differs, has it checked.
func (cs *changes) check(ctx context.Context, c *change) error {
	if at := c.in.ExpiresAt; !at.IsZero() && !at.After(time.Now()) {
		return &client.InputError{Msg: "it expired on " + at.UTC().Format(time.RFC3339)}
	}
	if err := cs.compare(ctx, c); err != nil || !c.wanted() {
		return err
	}
	return cs.c.Test(ctx, c.slot(), c.in)
}

// isRefusal reports whether an error is about one credential, and not about the caller
// or the sidecar.
func isRefusal(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	if _, input := errors.AsType[*client.InputError](err); input {
		return true
	}
	return ok && e.Status != http.StatusUnauthorized && e.Code != "FORBIDDEN_ADMIN_SCOPE" && e.Status < http.StatusInternalServerError
}

// compare says what has to be done for a credential. The stored secret is read, which
// is in the audit log, and never shown.
func (cs *changes) compare(ctx context.Context, c *change) error {
	alone := client.ResolveOptions{NoFallback: true}
	there, err := cs.c.Details(ctx, c.slot(), alone)
	if e, ok := errors.AsType[*client.Error](err); ok && e.Code == "CREDENTIAL_NOT_FOUND" {
		c.Change = changeCreate
		return nil
	}
	if err != nil {
		return err
	}
	c.Change, c.etag = changeRotate, there.ETag
	if there.Status != "active" {
		c.Why = "what is there is " + there.Status
		return nil
	}
	stored, err := cs.c.Resolve(ctx, c.slot(), alone)
	if err != nil {
		return err
	}
	if c.Why = differs(c.in, there.Credential, stored.Data); c.Why == "" {
		c.Change, c.Why = changeUnchanged, "it is set already"
	}
	return nil
}

// differs returns in what a credential is another than what is stored, "" when it is
// the same. What is not given stays as it is.
func differs(in client.SetInput, there wire.Credential, stored wire.Resolved) string {
	switch {
	case !sameSecret(in, stored):
		return "the value is another"
	case in.AuthType != "" && in.AuthType != there.AuthType:
		return "the auth type is another"
	case !in.ExpiresAt.IsZero() && (there.ExpiresAt == nil || !in.ExpiresAt.Truncate(time.Millisecond).Equal(time.Time(*there.ExpiresAt))):
		return "the expiry is another"
	case len(in.Labels) > 0 && !maps.Equal(in.Labels, there.Labels):
		return "the labels are others"
	}
	return ""
}

func sameSecret(in client.SetInput, stored wire.Resolved) bool {
	return maps.EqualFunc(secretOf(in.Value, in.Fields), secretOf(stored.Value, stored.Fields), secret.Value.Equal)
}

func secretOf(value *secret.Value, fields map[string]secret.Value) map[string]secret.Value {
	if value != nil {
		return map[string]secret.Value{"value": *value}
	}
	return fields
}

// confirm asks where a change is in a protected environment, or concerns others that are.
func (cs *changes) confirm(ctx context.Context, o *consent, scopes ...*string) error {
	wanted := 0
	for _, c := range cs.list {
		if c.wanted() {
			wanted++
			scopes = append(scopes, c.Environment)
		}
	}
	if wanted == 0 {
		return nil
	}
	protected, err := protectedAmong(ctx, cs.c, scopes...)
	if err != nil {
		return err
	}
	return o.ask(cs.sh, protected, cs.again)
}

// make makes the changes one by one. It stops at the first that fails; an error says how
// far it came, and that another run goes on from there.
func (cs *changes) make(ctx context.Context) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	bar := newBar(cs.sh, cs.what)
	defer bar.end()
	var unsynced error
	todo, done := 0, 0
	for _, c := range cs.list {
		if c.wanted() {
			todo++
		}
	}
	for _, c := range cs.list {
		if !c.wanted() {
			continue
		}
		bar.set(done, todo)
		if ctx.Err() != nil {
			return cs.stopped("interrupted", exitError, done, todo)
		}
		err := cs.set(ctx, c)
		if !c.Done {
			f := explain(err)
			if ctx.Err() != nil {
				f = failf(exitError, "interrupted, and whether this one was stored is not known")
			}
			return cs.stopped(c.label()+": "+f.msg, f.code, done, todo)
		}
		unsynced = firstOf(unsynced, err)
		done++
	}
	return unsynced
}

func (cs *changes) stopped(why string, code exitCode, done, todo int) error {
	return failf(code, "%s; %d of %d are done", why, done, todo).
		hinted("run %s again: what is done is not done twice", cs.again)
}

// set stores one credential, if the slot is as it was when it was compared. An error of
// one that is done is a syncer's, which tries again by itself.
func (cs *changes) set(ctx context.Context, c *change) error {
	if c.Change == changeCreate {
		made, err := cs.c.Create(ctx, c.slot(), c.in)
		c.Version, c.Done = made.Version, made.ID != ""
		return err
	}
	c.in.IfMatch = c.etag
	set, err := cs.c.Set(ctx, c.slot(), c.in)
	c.Version, c.Done = set.Data.Version, set.Data.ID != ""
	return err
}

// tell prints what becomes, or became, of each.
func (cs *changes) tell(form output, dryRun bool) error {
	if form.forPrograms() {
		return form.print(cs.sh.out, cs.list)
	}
	heading := []string{"SOURCE", "CREDENTIAL", "CHANGE", "WHY"}
	var rows [][]string
	for _, c := range cs.list {
		source, place := c.Source, ""
		if c.Line > 0 {
			source = fmt.Sprintf("line %d: %s", c.Line, c.Source)
		}
		if c.IntegrationID != "" {
			place = describe(c.IntegrationID, c.Environment, c.Name)
		}
		rows = append(rows, []string{source, place, c.outcome(dryRun), c.Why})
	}
	if err := printTable(cs.sh.out, heading, rows); err != nil {
		return err
	}
	if dryRun {
		fmt.Fprintln(cs.sh.err, "Nothing was changed: this was a dry run.")
	}
	return nil
}

// outcome is the change as a person reads it: what would be, or what was done.
func (c *change) outcome(dryRun bool) string {
	switch {
	case c.Change == changeSkip:
		return "skipped"
	case !c.wanted():
		return c.Change
	case dryRun:
		return "would " + c.Change
	case c.Done:
		return c.Change + "d"
	}
	return "not done"
}
