package host

import (
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
)

// Limits of what a program may answer.
const (
	mostAnswer     = 64 << 10 // bytes of a message on the wire
	mostHeaders    = 16 << 10
	longestMessage = 2000
	mostFields     = 32
	longestField   = 255
	longestRetry   = 24 * time.Hour
)

// rpc is one call of one service.
type rpc interface {
	service() string
	// invoke makes the call. A string is why the answer is none.
	invoke(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) (reason string, err error)
	outcome() string
}

type validateCall struct {
	call   vault.PluginCall
	result vault.Validation
}

func (*validateCall) service() string { return pluginpb.ServiceValidator }

func (c *validateCall) outcome() string {
	if c.result.Rejected {
		return "rejected"
	}
	return "ok"
}

func (c *validateCall) invoke(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) (string, error) {
	answer, err := pluginpb.NewValidatorClient(conn).Validate(ctx, &pluginpb.ValidateRequest{
		Place: place(c.call), Fields: reveal(c.call.Fields), AuthType: c.call.AuthType, Config: string(c.call.Binding.Config),
	}, opts...)
	if err != nil {
		return "", err
	}
	switch answer.GetVerdict() {
	case pluginpb.ValidateResponse_VERDICT_VALID:
		return "", nil
	case pluginpb.ValidateResponse_VERDICT_REJECTED:
		c.result = vault.Validation{
			Rejected: true,
			Message:  bounded(answer.GetMessage(), longestMessage, c.call.Fields),
			Fields:   boundedFields(answer.GetFieldMessages(), c.call.Fields),
		}
		return "", nil
	}
	return "gave no verdict", nil
}

type syncCall struct {
	call   vault.SyncCall
	result vault.SyncResult
}

func (*syncCall) service() string { return pluginpb.ServiceSyncer }

func (c *syncCall) outcome() string {
	if c.result.Failed {
		return "failed"
	}
	return "ok"
}

func (c *syncCall) invoke(ctx context.Context, conn grpc.ClientConnInterface, opts ...grpc.CallOption) (string, error) {
	answer, err := pluginpb.NewSyncerClient(conn).Sync(ctx, &pluginpb.SyncRequest{
		Change: change(c.call.Change), Place: place(c.call.PluginCall),
		CredentialId: string(c.call.CredentialID), Version: c.call.Version,
		Fields: reveal(c.call.Fields), AuthType: c.call.AuthType, Config: string(c.call.Binding.Config),
		IdempotencyKey: c.call.IdempotencyKey, Attempt: uint32(max(0, c.call.Attempt)),
	}, opts...)
	if err != nil {
		return "", err
	}
	switch answer.GetOutcome() {
	case pluginpb.SyncResponse_OUTCOME_DONE:
		return "", nil
	case pluginpb.SyncResponse_OUTCOME_FAILED, pluginpb.SyncResponse_OUTCOME_UNSPECIFIED:
		c.result = vault.SyncResult{
			Failed:     true,
			Message:    bounded(answer.GetMessage(), longestMessage, c.call.Fields),
			RetryAfter: min(time.Duration(answer.GetRetryAfterSeconds())*time.Second, longestRetry),
		}
		return "", nil
	}
	return "gave an outcome that this sidecar does not know", nil
}

func change(c vault.SyncChange) pluginpb.SyncRequest_Change {
	switch c {
	case vault.SyncSet:
		return pluginpb.SyncRequest_CHANGE_SET
	case vault.SyncRemove:
		return pluginpb.SyncRequest_CHANGE_REMOVE
	}
	return pluginpb.SyncRequest_CHANGE_UNSPECIFIED
}

func place(c vault.PluginCall) *pluginpb.Place {
	return &pluginpb.Place{Org: c.Org, Integration: c.Slot.Integration, Environment: c.Slot.Scope.Ptr(), Name: c.Slot.Name}
}

func reveal(fields seal.Fields) map[string]string {
	plain := make(map[string]string, len(fields))
	for name, v := range fields {
		plain[name] = v.Reveal()
	}
	return plain
}

// bounded cuts a program's text. The vault strikes the secrets out of it, but would
// not find one that the cut has halved.
func bounded(text string, most int, fields seal.Fields) string {
	if len(text) > most {
		text = strikerOf(fields).Strike(text)
	}
	return printable(text, most)
}

func boundedFields(messages map[string]string, fields seal.Fields) map[string]string {
	if len(messages) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(messages))
	kept := map[string]string{}
	for _, name := range names[:min(len(names), mostFields)] {
		kept[bounded(name, longestField, fields)] = bounded(messages[name], longestMessage, fields)
	}
	return kept
}
