package vault

import (
	"context"
	"time"

	"github.com/sidevault/sidevault/envs"
)

// SyncState says how far a change has come with a syncer.
type SyncState string

// The states of a sync.
const (
	SyncPending SyncState = "pending" // not tried yet, or at this moment
	SyncFailing SyncState = "failing" // tried, and tried again at NextAttempt
	SyncDone    SyncState = "synced"  // the other system has the slot's last change
	SyncNever   SyncState = "never"   // bound after the slot's last change, so never told of it
)

// Sync is what is known of one slot's changes on their way to one syncer.
type Sync struct {
	Binding      string // its name in the catalog entry
	Plugin       string // "" when the catalog no longer has the binding
	Slot         Slot
	State        SyncState
	Change       SyncChange
	CredentialID ID
	Version      uint64
	Attempts     int       // of the pending change
	LastError    string    // of the last attempt that failed; holds no secret
	ChangedAt    time.Time // when the change was stored
	SyncedAt     time.Time // zero unless SyncDone
	NextAttempt  time.Time // zero unless SyncPending or SyncFailing
}

// SyncFilter selects syncs. Zero fields select all.
type SyncFilter struct {
	Integration string
	Scope       *envs.Scope
	Name        string
	Binding     string
}

// Syncs returns the pending and failing syncs that the caller's grant covers, in a
// fixed order, after the one where a previous page ended ("" for the first), and
// where this one ends ("" when there are no more).
func (v *Vault) Syncs(ctx context.Context, c Caller, f SyncFilter, after string, limit int) (list []Sync, next string, err error) {
	panic("TODO")
}

// IsSyncCursor reports whether Syncs could have returned it as the place where a page
// ended, or it is "".
func IsSyncCursor(s string) bool { panic("TODO") }

// RetrySyncs makes the selected syncs due at once, and returns how many. With an
// integration named, those that are synced or were never told are sent again too.
func (v *Vault) RetrySyncs(ctx context.Context, c Caller, f SyncFilter) (n int, err error) {
	panic("TODO")
}

// Plugins returns the state of every configured plugin, by name. It takes admin
// scope.
func (v *Vault) Plugins(ctx context.Context, c Caller) (list []PluginState, err error) {
	panic("TODO")
}

// QuarantinedPlugins returns the names of the plugins that are quarantined or
// unusable, which needs no caller.
func (v *Vault) QuarantinedPlugins() []string { panic("TODO") }
