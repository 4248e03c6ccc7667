package vault

import (
	"context"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/sidevault/sidevault/envs"
)

// Org is a tenant. Both of its names are fixed for good.
type Org struct {
	ID   string // a UUID
	Slug string
}

// Actor is who did something, as audit entries and credentials record it.
type Actor struct {
	Email string `json:"email"` // "" when not known
	ID    string `json:"id"`
	Kind  string `json:"kind"` // api_key, jwt, unix or system
	Name  string `json:"name"`
}

// key tells the actor from every other: IDs of different kinds come from
// different places and can be the same.
func (a Actor) key() string { return a.Kind + ":" + a.ID }

// By is who did something. Few do much: of each there is one copy in memory.
type By struct{ actor unique.Handle[Actor] }

func (a Actor) by() By { return By{unique.Make(a)} }

// Actor returns who it was; the zero Actor for a By that names nobody.
func (b By) Actor() Actor {
	if b == (By{}) {
		return Actor{}
	}
	return b.actor.Value()
}

// Label is the actor's e-mail address or, without one, the name.
func (a Actor) Label() string {
	if a.Email != "" {
		return a.Email
	}
	return a.Name
}

// Origin is where a request came from.
type Origin struct {
	Source    string // rest, mcp or cli
	Peer      string // network address, or uid and pid of a Unix peer
	Realm     string // what the client says of itself in realmname; nobody checked it
	RequestID string
}

// All in a grant's list stands for every name; for environments, for every one
// that is not protected.
const All = "*"

// Caller is an authenticated caller with what it may do. Its zero value may do
// nothing.
type Caller struct {
	Actor        Actor
	Org          Org
	Admin        bool
	Environments []string // names, or All; a protected environment must be named
	Integrations []string // keys, or All
	Origin       Origin
}

// mayRead reports whether the grant lets the caller read what is in scope. What
// is shared is meant for every environment, so every caller may.
func (c Caller) mayRead(t *envs.Tree, scope envs.Scope) bool {
	return scope == envs.Shared || c.covers(t, scope)
}

// mayChange reports whether the grant lets the caller change what is in scope.
// A change of the shared scope reaches every environment, so it takes All.
func (c Caller) mayChange(t *envs.Tree, scope envs.Scope) bool {
	if scope == envs.Shared {
		return slices.Contains(c.Environments, All)
	}
	return c.covers(t, scope)
}

func (c Caller) covers(t *envs.Tree, scope envs.Scope) bool {
	if slices.Contains(c.Environments, string(scope)) {
		return true
	}
	e, ok := t.Lookup(string(scope))
	return ok && !e.Protected && slices.Contains(c.Environments, All)
}

func (c Caller) usesIntegration(key string) bool {
	return slices.Contains(c.Integrations, All) || slices.Contains(c.Integrations, key)
}

// contains reports whether other's grant is no greater than c's, so that no
// caller can make a key that may do more than itself.
func (c Caller) contains(t *envs.Tree, other Caller) bool {
	for _, env := range other.Environments {
		if env == All && !slices.Contains(c.Environments, All) || env != All && !c.covers(t, envs.Scope(env)) {
			return false
		}
	}
	for _, key := range other.Integrations {
		if !slices.Contains(c.Integrations, All) && (key == All || !slices.Contains(c.Integrations, key)) {
			return false
		}
	}
	return c.Org == other.Org && (c.Admin || !other.Admin)
}

// attempt is one operation that a caller has begun. It is the only way to an
// audit entry: the methods of Vault open an attempt first and close it with
// their outcome.
type attempt struct {
	v      *Vault
	caller Caller
	entry  auditBody
	at     time.Time // of a read: when it was allowed
	// pending is what the attempt's commit put into the outbox.
	pending []pendingSync
}

// begin opens an attempt at action on an integration's slot.
func (v *Vault) begin(c Caller, action string, slot Slot) *attempt {
	return &attempt{v: v, caller: c, entry: v.entryOn(&c, action, slot)}
}

// beginOn opens an attempt at action on anything else.
func (v *Vault) beginOn(c Caller, action, targetType, targetID string) *attempt {
	return &attempt{v: v, caller: c, entry: newEntry(&c, action, targetType, targetID)}
}

// entryOn is the beginning of an audit entry on an integration's slot.
func (v *Vault) entryOn(c *Caller, action string, slot Slot) auditBody {
	entry := newEntry(c, action, targetIntegration, slot.Integration)
	entry.Environment, entry.Name = v.envs.Ptr(slot.Scope), slot.Name
	return entry
}

func newEntry(c *Caller, action, targetType, targetID string) auditBody {
	return auditBody{
		Action:     action,
		Actor:      c.Actor,
		Org:        c.Org.Slug,
		Peer:       c.Origin.Peer,
		Realm:      c.Origin.Realm,
		RequestID:  c.Origin.RequestID,
		Source:     c.Origin.Source,
		TargetID:   targetID,
		TargetType: targetType,
	}
}

// close records a failed attempt; a successful one was recorded by the commit
// that made it so. It returns err. An attempt that cannot be recorded has given
// the caller nothing, so err stands and the log says that the record is missing.
func (a *attempt) close(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	a.entry.Outcome = KindOf(err).String()
	if KindOf(err) == IntegrationNotFound && !keyLikeRE.MatchString(a.entry.TargetID) {
		// What names nothing of ours may be a secret in the wrong place, and the
		// log is kept for good.
		a.entry.TargetID = ""
	}
	a.v.count(a.entry.Action, a.entry.Outcome)
	// The record must not depend on the caller's patience.
	ctx = context.WithoutCancel(ctx)
	if KindOf(err) != BackendUnavailable {
		if commitErr := a.v.appendEntries(ctx, a.entry); commitErr != nil {
			a.v.log.ErrorContext(ctx, "a refused attempt could not be recorded in the audit log",
				"action", a.entry.Action, "outcome", a.entry.Outcome, "request_id", a.entry.RequestID, "err", commitErr)
		}
	}
	return err
}

// keyLikeRE is what a mistyped key looks like, and a token of a provider hardly.
var keyLikeRE = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,23}$`)

// admin refuses a caller without admin scope.
func (a *attempt) admin() error {
	if a.caller.Admin {
		return nil
	}
	return errorf(ForbiddenAdminScope, "This operation requires an admin-scoped API key").
		detailed("%s has user scope; ask an administrator to create a key with scope admin", a.caller.Actor.Name)
}

// reads refuses a caller whose grant does not let it read the slot.
func (a *attempt) reads(slot Slot) error {
	return a.grant(slot, a.caller.mayRead(a.v.envs, slot.Scope))
}

// changes refuses a caller that may not change the slot.
func (a *attempt) changes(slot Slot) error {
	if err := a.admin(); err != nil {
		return err
	}
	return a.grant(slot, a.caller.mayChange(a.v.envs, slot.Scope))
}

func (a *attempt) grant(slot Slot, environment bool) error {
	if !a.caller.usesIntegration(slot.Integration) {
		return errorf(Forbidden, "This caller may not use integration %s", slot.Integration).
			detailed("the grant of %s covers these integrations: %s", a.caller.Actor.Name, strings.Join(a.caller.Integrations, ", "))
	}
	if !environment {
		return a.outside(slot.Scope)
	}
	return nil
}

// outside is the refusal of a scope that the caller's grant does not cover.
func (a *attempt) outside(s envs.Scope) error {
	return errorf(Forbidden, "This caller may not use %s", a.v.describeScope(s)).
		detailed("the grant of %s covers these environments: %s", a.caller.Actor.Name, strings.Join(a.caller.Environments, ", "))
}

func (v *Vault) describeScope(s envs.Scope) string {
	if s == envs.Shared {
		return `the shared scope: changing it takes a grant for "*"`
	}
	if e, _ := v.envs.Lookup(string(s)); e.Protected {
		return "environment " + e.Name + ", which is protected: a grant must name it"
	}
	return "environment " + string(s)
}

// host returns the peer without its port or process, by which the reads of one
// peer would not be counted together.
func host(peer string) string {
	peer, _, _ = strings.Cut(peer, " pid=")
	if h, _, err := net.SplitHostPort(peer); err == nil {
		return h
	}
	return peer
}
