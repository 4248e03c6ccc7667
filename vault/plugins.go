package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sidevault/sidevault/vault/seal"
)

// Binding ties an integration to a plugin: one line of its catalog entry.
type Binding struct {
	// Name tells the bindings of one integration apart. It is the plugin's name
	// unless the entry gives another.
	Name    string
	Plugin  string        // the program, as the configuration names it
	Config  []byte        // a JSON object, the plugin's own; nil: none
	Timeout time.Duration // for the answer to one call; 0: DefaultPluginTimeout
	Fields  []string      // names of the fields that the plugin gets; nil: all
}

// DefaultPluginTimeout is how long a plugin has to answer.
const DefaultPluginTimeout = 10 * time.Second

// Validator is the binding of a program that says whether a credential is good.
type Validator struct {
	Binding
	// AllowUnavailable lets a credential pass that the validator gave no answer
	// for. The audit entry says so.
	AllowUnavailable bool
}

// Syncer is the binding of a program that carries changes to another system.
type Syncer struct {
	Binding
	OnSet    SyncMode // zero: Surface
	OnRemove SyncMode // zero: Swallow
}

// SyncMode says what a failed sync does to the call that made the change.
type SyncMode string

// The modes. In both, the sync is repeated until it succeeds.
const (
	Surface SyncMode = "surface" // the call waits for the sync, and fails with it
	Swallow SyncMode = "swallow" // the call neither waits nor fails
)

// Plugins is the port through which the vault calls the programs that the
// catalog binds. Calls may be concurrent. They must end soon after ctx does, and when
// the binding's Timeout has passed, which does not count the start of the program.
//
// Errors are [*PluginError]: the program gave no answer.
type Plugins interface {
	// Validate asks a validator about a credential.
	Validate(ctx context.Context, call PluginCall) (Validation, error)

	// Sync hands a change to a syncer.
	Sync(ctx context.Context, call SyncCall) (SyncResult, error)

	// States returns the state of every configured program, by name.
	States() []PluginState
}

// PluginCall is what a plugin is told of a credential.
type PluginCall struct {
	Binding  Binding
	Org      string // slug
	Slot     Slot
	AuthType string
	Fields   seal.Fields // those of Binding.Fields alone
}

// SyncCall is a change for a syncer. Fields is empty unless the change is a set.
type SyncCall struct {
	PluginCall
	Change         SyncChange
	CredentialID   ID
	Version        uint64
	IdempotencyKey string
	Attempt        int // from 1
}

// SyncChange is what happened to a slot.
type SyncChange string

// The changes.
const (
	SyncSet    SyncChange = "set"
	SyncRemove SyncChange = "remove"
)

// Validation is a validator's answer. Its texts come from the program as they are:
// whoever passes them on strikes the secrets out first.
type Validation struct {
	Rejected bool
	Message  string
	Fields   map[string]string // what is wrong with single fields
}

// SyncResult is a syncer's answer, under the rule of Validation.
type SyncResult struct {
	Failed     bool
	Message    string
	RetryAfter time.Duration // 0: as the vault thinks fit
}

// PluginError says that a program gave no answer.
type PluginError struct {
	Plugin string
	Reason string // for callers: did not answer within 2s; may quote the program
	Err    error  // for the log
}

// Error returns the text for the log.
func (e *PluginError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("plugin %s %s", e.Plugin, e.Reason)
	}
	return fmt.Sprintf("plugin %s %s: %v", e.Plugin, e.Reason, e.Err)
}

// Unwrap returns the cause.
func (e *PluginError) Unwrap() error { return e.Err }

// PluginState is what is known of a configured program.
type PluginState struct {
	Name        string
	Path        string
	SHA256      string // of the file, as found; "" when it cannot be read
	Version     string // as the program says; "" until it has run
	Description string
	Services    []string // validator, syncer; as the program says
	Status      PluginStatus
	Reason      string // why it is not ready: the last failure
	Processes   int    // that run at the moment
	Calls       uint64
	Failures    uint64    // calls that got no answer
	Restarts    uint64    // starts after the first one of each pool member
	NextStart   time.Time // zero unless it is held back
}

// PluginStatus is the state of a program.
type PluginStatus string

// The states of a program.
const (
	PluginIdle        PluginStatus = "idle"        // no process; the next call starts one
	PluginRunning     PluginStatus = "running"     // at least one process answers
	PluginBackoff     PluginStatus = "backoff"     // it failed, and is started again at NextStart
	PluginQuarantined PluginStatus = "quarantined" // it failed again and again; tried again at NextStart
	PluginUnusable    PluginStatus = "unusable"    // missing, not executable, another checksum, ...
)

func asPluginError(err error) (*PluginError, bool) { return errors.AsType[*PluginError](err) }

// noPlugins is the port where there are none: whatever is bound is unavailable.
type noPlugins struct{}

func (noPlugins) Validate(_ context.Context, c PluginCall) (Validation, error) {
	return Validation{}, &PluginError{Plugin: c.Binding.Plugin, Reason: "is not configured"}
}

func (noPlugins) Sync(_ context.Context, c SyncCall) (SyncResult, error) {
	return SyncResult{}, &PluginError{Plugin: c.Binding.Plugin, Reason: "is not configured"}
}

func (noPlugins) States() []PluginState { return nil }

// Plugins returns the state of every configured plugin, by name. It takes admin
// scope.
func (v *Vault) Plugins(ctx context.Context, c Caller) (list []PluginState, err error) {
	a := v.beginOn(c, ActionListPlugins, targetPlugin, "")
	defer func() { err = a.close(ctx, err) }()
	if err := a.admin(); err != nil {
		return nil, err
	}
	return v.plugins.States(), nil
}

// QuarantinedPlugins returns the names of the plugins that cannot be called at the
// moment and will not recover by the next call, which needs no caller.
func (v *Vault) QuarantinedPlugins() (names []string) {
	for _, p := range v.plugins.States() {
		if p.Status == PluginQuarantined || p.Status == PluginUnusable {
			names = append(names, p.Name)
		}
	}
	return names
}
