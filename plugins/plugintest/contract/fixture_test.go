package contract_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sidevault/sidevault/plugins/pluginpb"
)

// fixture is a plugin without the SDK, which would keep many a fault from showing.
// Its fault is what it does wrong; "" is nothing.
type fixture struct {
	plugin.NetRPCUnsupportedPlugin
	pluginpb.UnimplementedPluginServer
	pluginpb.UnimplementedValidatorServer
	pluginpb.UnimplementedSyncerServer
	fault string
	kind  string

	mu        sync.Mutex
	last      string // crosstalk
	held      chan struct{}
	delivered map[string]int
}

// main is what the test binary does when it is a plugin.
func (f *fixture) main() {
	switch f.fault {
	case "exit 0":
		os.Exit(0)
	case "noise":
		fmt.Println("loading")
	case "cookie":
		os.Setenv(pluginpb.CookieKey, pluginpb.CookieValue)
	case "in clear":
		os.Unsetenv("PLUGIN_CLIENT_CERT")
	case "socket":
		os.Unsetenv("PLUGIN_UNIX_SOCKET_DIR")
	case "strangers", "health":
		f.serveByHand()
	}
	version := uint(pluginpb.ProtocolVersion)
	if f.fault == "version" {
		version = 2
	}
	f.held, f.delivered = make(chan struct{}, 1), map[string]int{}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: version, MagicCookieKey: pluginpb.CookieKey, MagicCookieValue: pluginpb.CookieValue},
		Plugins:         plugin.PluginSet{"x": f},
		GRPCServer: func(o []grpc.ServerOption) *grpc.Server {
			if f.fault == "wire" {
				o = append(o, grpc.ForceServerCodec(brittle{}))
			}
			return plugin.DefaultGRPCServer(o)
		},
		Logger: hclog.NewNullLogger(),
	})
	if f.fault == "shutdown" {
		select {}
	}
}

// brittle does not survive what is no message.
type brittle struct{}

var _ encoding.Codec = brittle{}

func (brittle) Name() string { return "proto" }

func (brittle) Marshal(v any) ([]byte, error) { return proto.Marshal(v.(proto.Message)) }

func (brittle) Unmarshal(p []byte, v any) error {
	if proto.Unmarshal(p, v.(proto.Message)) != nil {
		os.Exit(3)
	}
	return nil
}

// serveByHand is a server whose doors are not closed, or whose health is unknown.
func (f *fixture) serveByHand() {
	if os.Getenv(pluginpb.CookieKey) != pluginpb.CookieValue {
		os.Exit(1)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	if f.fault != "strangers" {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		config.ClientCAs.AppendCertsFromPEM([]byte(os.Getenv("PLUGIN_CLIENT_CERT")))
	}
	path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "s")
	listener, err := net.Listen("unix", path)
	must(err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	f.register(server)
	fmt.Printf("1|1|unix|%s|grpc|%s\n", path, base64.RawStdEncoding.EncodeToString(der))
	must(server.Serve(listener))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (f *fixture) register(s *grpc.Server) {
	pluginpb.RegisterPluginServer(s, f)
	pluginpb.RegisterValidatorServer(s, f)
	pluginpb.RegisterSyncerServer(s, f)
}

func (f *fixture) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	f.register(s)
	return nil
}

func (f *fixture) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("no client")
}

func (f *fixture) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	switch f.fault {
	case "undescribed":
		return nil, status.Error(codes.Unimplemented, "no")
	case "no version":
		return &pluginpb.DescribeResponse{Name: "fixture", Services: []string{f.kind}}, nil
	case "another kind":
		return &pluginpb.DescribeResponse{Name: "fixture", Version: "1", Services: []string{"oracle"}}, nil
	}
	return &pluginpb.DescribeResponse{Name: "fixture", Version: "1", Services: []string{f.kind}}, nil
}

func (f *fixture) Validate(ctx context.Context, r *pluginpb.ValidateRequest) (*pluginpb.ValidateResponse, error) {
	value := r.GetFields()["value"]
	if f.fault == "crosstalk" {
		value = f.mixedUp(value)
	}
	if err := f.misbehave(ctx, value, r.GetPlace(), r.GetConfig(), len(r.ProtoReflect().GetUnknown())); err != nil {
		return nil, err
	}
	refused := &pluginpb.ValidateResponse{Verdict: pluginpb.ValidateResponse_VERDICT_REJECTED, Message: "a key begins with good_"}
	switch f.fault {
	case "no verdict":
		return &pluginpb.ValidateResponse{}, nil
	case "accepts all":
		return &pluginpb.ValidateResponse{Verdict: pluginpb.ValidateResponse_VERDICT_VALID}, nil
	case "refuses all":
		return refused, nil
	case "no reasons":
		refused.Message = ""
	case "echo in message":
		refused.Message = "no such key: " + base64.StdEncoding.EncodeToString([]byte(value))
	case "echo in field":
		refused.FieldMessages = map[string]string{"value": value + " is bad"}
	}
	if strings.HasPrefix(value, "good_") {
		return &pluginpb.ValidateResponse{Verdict: pluginpb.ValidateResponse_VERDICT_VALID}, nil
	}
	return refused, nil
}

// mixedUp keeps what belongs to a call where others find it.
func (f *fixture) mixedUp(value string) string {
	f.mu.Lock()
	f.last = value
	f.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// misbehave does the faults that both kinds can have.
func (f *fixture) misbehave(ctx context.Context, value string, place *pluginpb.Place, config string, unknown int) error {
	long, odd := len(value) > 8192, strings.Contains(value, "\x00")
	if f.fault == "hang" {
		<-ctx.Done()
		select {}
	}
	if f.fault == "crash" || f.fault == "unknown fields" && unknown > 0 || f.fault == "empty" && place == nil || f.fault == "long" && long || f.fault == "odd" && odd {
		fmt.Fprintln(os.Stderr, "I give up")
		os.Exit(3)
	}
	switch f.fault {
	case "cancelled":
		f.held <- struct{}{}
		select {
		case <-ctx.Done():
			return ctx.Err() // and never lets go
		case <-time.After(5 * time.Millisecond):
			<-f.held
		}
	case "echo in error":
		if !strings.HasPrefix(value, "good_") {
			return status.Error(codes.Unavailable, "GET /?key="+value)
		}
	case "echo on stderr":
		fmt.Fprintf(os.Stderr, "asked about %q\n", value)
	case "stdout":
		fmt.Println("asked")
	}
	var options map[string]any
	broken := config != "" && json.Unmarshal([]byte(config), &options) != nil || config == "null"
	if broken && f.fault != "ignores config" {
		return status.Error(codes.InvalidArgument, "the config is no JSON object")
	}
	if delete(options, "prefix"); len(options) > 0 && f.fault != "ignores options" {
		return status.Error(codes.InvalidArgument, "the config has an unknown key")
	}
	return nil
}

func (f *fixture) Sync(ctx context.Context, r *pluginpb.SyncRequest) (*pluginpb.SyncResponse, error) {
	value := r.GetFields()["value"]
	if err := f.misbehave(ctx, value, r.GetPlace(), r.GetConfig(), len(r.ProtoReflect().GetUnknown())); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delivered[r.GetIdempotencyKey()]++
	times := f.delivered[r.GetIdempotencyKey()]
	failed := &pluginpb.SyncResponse{Outcome: pluginpb.SyncResponse_OUTCOME_FAILED, Message: "no"}
	known := r.GetChange() == pluginpb.SyncRequest_CHANGE_SET || r.GetChange() == pluginpb.SyncRequest_CHANGE_REMOVE
	switch {
	case !known && f.fault != "any change":
		return nil, status.Error(codes.Unimplemented, "what?")
	case r.GetChange() == pluginpb.SyncRequest_CHANGE_REMOVE:
		if f.delivered["removed"]++; f.fault == "removes once" && f.delivered["removed"] > 1 {
			return failed, nil
		}
	case known && !strings.HasPrefix(value, "good_"), f.fault == "delivers once" && times > 1:
		return failed, nil
	}
	return &pluginpb.SyncResponse{Outcome: pluginpb.SyncResponse_OUTCOME_DONE}, nil
}
