package sdk

import (
	"context"
	"log/slog"
	"os"
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
	result, err := s.validator.Validate(ctx, ValidateRequest{Credential: c, Config: Config(r.GetConfig())})
	if err != nil {
		return nil, noAnswer(ctx, struck, err)
	}
	response := &pluginpb.ValidateResponse{Message: struck.Strike(result.message)}
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
		response.FieldMessages[name] = struck.Strike(message)
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
	result, err := s.syncer.Sync(ctx, SyncRequest{
		Credential: c, Change: change, CredentialID: r.GetCredentialId(), Version: r.GetVersion(),
		IdempotencyKey: r.GetIdempotencyKey(), Attempt: int(r.GetAttempt()), Config: Config(r.GetConfig()),
	})
	if err != nil {
		return nil, noAnswer(ctx, struck, err)
	}
	response := &pluginpb.SyncResponse{Message: struck.Strike(result.message), Outcome: pluginpb.SyncResponse_OUTCOME_FAILED}
	if result.done {
		response.Outcome = pluginpb.SyncResponse_OUTCOME_DONE
	}
	response.RetryAfterSeconds = uint32(max(0, min(result.retryAfter, 24*time.Hour)) / time.Second)
	return response, nil
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

// noAnswer keeps the secrets of the call out of an error: those of HTTP clients
// quote the URL.
func noAnswer(ctx context.Context, s *secret.Striker, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Error(codes.Unavailable, s.Strike(err.Error()))
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
