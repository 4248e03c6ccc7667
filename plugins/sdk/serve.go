package sdk

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault/secret"
)

// ServeValidator answers the sidecar's calls until the sidecar ends the program. It
// is all that main does.
func ServeValidator(v Validator, info Info) {
	serve(info, pluginpb.ServiceValidator, func(s *grpc.Server) {
		pluginpb.RegisterValidatorServer(s, validatorServer{validator: v})
	})
}

// ServeSyncer is ServeValidator for a Syncer.
func ServeSyncer(s Syncer, info Info) {
	serve(info, pluginpb.ServiceSyncer, func(g *grpc.Server) {
		pluginpb.RegisterSyncerServer(g, syncerServer{syncer: s})
	})
}

func serve(info Info, service string, register func(*grpc.Server)) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: pluginpb.ProtocolVersion, MagicCookieKey: pluginpb.CookieKey, MagicCookieValue: pluginpb.CookieValue,
		},
		Plugins: plugin.PluginSet{service: registration{register: func(s *grpc.Server) {
			pluginpb.RegisterPluginServer(s, describer{info: info, service: service})
			register(s)
		}}},
		GRPCServer: plugin.DefaultGRPCServer,
		Logger:     hclog.NewNullLogger(),
	})
}

// registration adds services to go-plugin's server.
type registration struct {
	plugin.NetRPCUnsupportedPlugin
	register func(*grpc.Server)
}

func (r registration) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	r.register(s)
	return nil
}

func (registration) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, status.Error(codes.Unimplemented, "a plugin is a server")
}

type describer struct {
	pluginpb.UnimplementedPluginServer
	info    Info
	service string
}

func (d describer) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	return &pluginpb.DescribeResponse{
		Name: d.info.Name, Version: d.info.Version, Description: d.info.Description, Services: []string{d.service},
	}, nil
}

type validatorServer struct {
	pluginpb.UnimplementedValidatorServer
	validator Validator
}

func (s validatorServer) Validate(ctx context.Context, r *pluginpb.ValidateRequest) (*pluginpb.ValidateResponse, error) {
	c := credential(r.GetPlace(), r.GetFields(), r.GetAuthType())
	struck := secret.NewStriker(values(c.Fields)...)
	request := ValidateRequest{Credential: c, Config: Config(r.GetConfig())}
	if err := request.Config.check(); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	result, err := guarded(struck, func() (ValidateResult, error) { return s.validator.Validate(ctx, request) })
	if err != nil {
		return nil, noAnswer(ctx, struck, err)
	}
	response := &pluginpb.ValidateResponse{Message: clean(struck, result.message)}
	switch result.verdict {
	case accepted:
		response.Verdict = pluginpb.ValidateResponse_VERDICT_VALID
	case rejected:
		response.Verdict = pluginpb.ValidateResponse_VERDICT_REJECTED
	}
	for name, message := range result.fields {
		if response.FieldMessages == nil {
			response.FieldMessages = map[string]string{}
		}
		response.FieldMessages[clean(struck, name)] = clean(struck, message)
	}
	return response, nil
}

type syncerServer struct {
	pluginpb.UnimplementedSyncerServer
	syncer Syncer
}

func (s syncerServer) Sync(ctx context.Context, r *pluginpb.SyncRequest) (*pluginpb.SyncResponse, error) {
	c := credential(r.GetPlace(), r.GetFields(), r.GetAuthType())
	struck := secret.NewStriker(values(c.Fields)...)
	change, err := change(r.GetChange())
	if err != nil {
		return nil, err
	}
	request := SyncRequest{
		Credential: c, Change: change, CredentialID: r.GetCredentialId(), Version: r.GetVersion(),
		IdempotencyKey: r.GetIdempotencyKey(), Attempt: int(r.GetAttempt()), Config: Config(r.GetConfig()),
	}
	if err := request.Config.check(); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	result, err := guarded(struck, func() (SyncResult, error) { return s.syncer.Sync(ctx, request) })
	if err != nil {
		return nil, noAnswer(ctx, struck, err)
	}
	response := &pluginpb.SyncResponse{Message: clean(struck, result.message), Outcome: pluginpb.SyncResponse_OUTCOME_FAILED}
	if result.done {
		response.Outcome = pluginpb.SyncResponse_OUTCOME_DONE
	}
	response.RetryAfterSeconds = wholeSeconds(result.retryAfter)
	return response, nil
}

// wholeSeconds rounds up: 0 would leave it to the sidecar.
func wholeSeconds(d time.Duration) uint32 {
	return uint32((max(0, min(d, 24*time.Hour)) + time.Second - 1) / time.Second)
}

func change(c pluginpb.SyncRequest_Change) (Change, error) {
	switch c {
	case pluginpb.SyncRequest_CHANGE_SET:
		return Set, nil
	case pluginpb.SyncRequest_CHANGE_REMOVE:
		return Remove, nil
	}
	return "", status.Error(codes.Unimplemented, "a change that this plugin does not know")
}

// guarded makes a panic an error of its call alone. The process would end with it,
// and the other calls under way in it would get no answer either. What was panicked
// with is not printed as the runtime would: it may quote a secret.
func guarded[T any](struck *secret.Striker, call func() (T, error)) (result T, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			said := clean(struck, fmt.Sprint(cause))
			slog.Error("the plugin panicked", "panic", said, "stack", clean(struck, string(debug.Stack())))
			err = fmt.Errorf("the plugin panicked: %s", said)
		}
	}()
	return call()
}

// noAnswer keeps the secrets of the call out of an error: those of HTTP clients
// quote the URL.
func noAnswer(ctx context.Context, s *secret.Striker, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(codes.Unavailable, clean(s, err.Error()))
}

// clean returns what may be said of a call. Text that is not UTF-8, as a provider
// may have sent it, would make the whole answer unreadable.
func clean(struck *secret.Striker, text string) string {
	return strings.ToValidUTF8(struck.Strike(text), "\uFFFD")
}

func credential(p *pluginpb.Place, fields map[string]string, authType string) Credential {
	c := Credential{
		Place:    Place{Org: p.GetOrg(), Integration: p.GetIntegration(), Environment: p.GetEnvironment(), Name: p.GetName()},
		Fields:   make(map[string]secret.Value, len(fields)),
		AuthType: authType,
	}
	for name, text := range fields {
		c.Fields[name] = secret.New(text)
	}
	return c
}

func values(fields map[string]secret.Value) []secret.Value {
	list := make([]secret.Value, 0, len(fields))
	for _, v := range fields {
		list = append(list, v)
	}
	return list
}
