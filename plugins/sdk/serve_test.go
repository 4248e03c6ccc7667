package sdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sidevault/sidevault/plugins/pluginpb"
	"github.com/sidevault/sidevault/vault/secret"
)

const canary = "canary-7f31c0aa"

// validate and sync are plugins in one function.
type validate func(context.Context, ValidateRequest) (ValidateResult, error)

func (f validate) Validate(ctx context.Context, r ValidateRequest) (ValidateResult, error) {
	return f(ctx, r)
}

type sync func(context.Context, SyncRequest) (SyncResult, error)

func (f sync) Sync(ctx context.Context, r SyncRequest) (SyncResult, error) { return f(ctx, r) }

// dial serves what register adds, and connects to it.
func dial(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	listener, server := bufconn.Listen(1<<20), grpc.NewServer()
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return conn
}

func validator(t *testing.T, v validate) pluginpb.ValidatorClient {
	t.Helper()
	return pluginpb.NewValidatorClient(dial(t, func(s *grpc.Server) { pluginpb.RegisterValidatorServer(s, validatorServer{validator: v}) }))
}

func syncer(t *testing.T, v sync) pluginpb.SyncerClient {
	t.Helper()
	return pluginpb.NewSyncerClient(dial(t, func(s *grpc.Server) { pluginpb.RegisterSyncerServer(s, syncerServer{syncer: v}) }))
}

func opaque() *pluginpb.ValidateRequest {
	return &pluginpb.ValidateRequest{Fields: map[string]string{ValueField: canary}}
}

func TestVerdicts(t *testing.T) {
	const valid, refused, none = pluginpb.ValidateResponse_VERDICT_VALID, pluginpb.ValidateResponse_VERDICT_REJECTED, pluginpb.ValidateResponse_VERDICT_UNSPECIFIED
	for name, c := range map[string]struct {
		result ValidateResult
		want   *pluginpb.ValidateResponse
	}{
		"accept":           {Accept(), &pluginpb.ValidateResponse{Verdict: valid}},
		"reject":           {Reject("no such %s", "account"), &pluginpb.ValidateResponse{Verdict: refused, Message: "no such account"}},
		"fields":           {Reject("two faults").Field("host", "no URL").Field("port", "%d is none", 0), &pluginpb.ValidateResponse{Verdict: refused, Message: "two faults", FieldMessages: map[string]string{"host": "no URL", "port": "0 is none"}}},
		"a field twice":    {Reject("m").Field("host", "one").Field("host", "two"), &pluginpb.ValidateResponse{Verdict: refused, Message: "m", FieldMessages: map[string]string{"host": "two"}}},
		"accept, rejected": {Accept().Field("host", "no URL"), &pluginpb.ValidateResponse{Verdict: refused, FieldMessages: map[string]string{"host": "no URL"}}},
		"zero":             {ValidateResult{}, &pluginpb.ValidateResponse{Verdict: none}},
		"no UTF-8":         {Reject("they said \xff"), &pluginpb.ValidateResponse{Verdict: refused, Message: "they said \uFFFD"}},
		"the secret": {Reject("%s is bad", canary).Field("value", "it is %q", canary), &pluginpb.ValidateResponse{
			Verdict: refused, Message: secret.Redacted + " is bad", FieldMessages: map[string]string{"value": `it is "` + secret.Redacted + `"`}}},
	} {
		t.Run(name, func(t *testing.T) {
			client := validator(t, func(context.Context, ValidateRequest) (ValidateResult, error) { return c.result, nil })
			got, err := client.Validate(t.Context(), opaque())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// A rejection must not change under another one made from it.
func TestFieldCopies(t *testing.T) {
	base := Reject("m").Field("a", "1")
	_ = base.Field("b", "2")
	if diff := cmp.Diff(map[string]string{"a": "1"}, base.fields); diff != "" {
		t.Error(diff)
	}
}

func TestValidateRequest(t *testing.T) {
	production := "production"
	var got ValidateRequest
	client := validator(t, func(_ context.Context, r ValidateRequest) (ValidateResult, error) {
		got = r
		return Accept(), nil
	})
	_, err := client.Validate(t.Context(), &pluginpb.ValidateRequest{
		Place:  &pluginpb.Place{Org: "o", Integration: "acme", Environment: &production, Name: "default"},
		Fields: map[string]string{ValueField: canary, "user": "u"}, AuthType: "api_key", Config: `{"a": 1}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Place{"o", "acme", "production", "default"}); got.Place != want || got.AuthType != "api_key" || string(got.Config) != `{"a": 1}` {
		t.Errorf("got %+v of %+v", got, want)
	}
	if !got.Value().Equal(secret.New(canary)) || !got.Fields["user"].Equal(secret.New("u")) || len(got.Fields) != 2 {
		t.Error("the fields are not those that were sent")
	}
	if said := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(said, canary) {
		t.Error("a request that is printed shows the secret")
	}
}

func TestNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		call    validate
		code    codes.Code
		message string
	}{
		"an error": {func(context.Context, ValidateRequest) (ValidateResult, error) {
			return ValidateResult{}, errors.New("no route")
		}, codes.Unavailable, "no route"},
		"an error beats result": {func(context.Context, ValidateRequest) (ValidateResult, error) {
			return Accept(), errors.New("no route")
		}, codes.Unavailable, "no route"},
		"with the secret": {func(_ context.Context, r ValidateRequest) (ValidateResult, error) {
			return Accept(), fmt.Errorf("GET https://acme.example/?key=%s: refused", r.Value().Reveal())
		}, codes.Unavailable, "GET https://acme.example/?key=<redacted>: refused"},
		"no UTF-8": {func(context.Context, ValidateRequest) (ValidateResult, error) { return Accept(), errors.New("\xc3(") }, codes.Unavailable, "\uFFFD("},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := validator(t, c.call).Validate(t.Context(), opaque())
			if s := status.Convert(err); s.Code() != c.code || s.Message() != c.message {
				t.Errorf("got %v: %s", s.Code(), s.Message())
			}
		})
	}
}

// A panic is the end of its call, not of the program, and is not printed with what
// the call was given.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	first := true
	client := validator(t, func(_ context.Context, r ValidateRequest) (ValidateResult, error) {
		if first {
			first = false
			panic("what is " + r.Value().Reveal())
		}
		return Accept(), nil
	})
	_, err := client.Validate(t.Context(), opaque())
	if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != "the plugin panicked: what is <redacted>" {
		t.Errorf("got %v: %s", s.Code(), s.Message())
	}
	if _, err := client.Validate(t.Context(), opaque()); err != nil {
		t.Errorf("the next call: %v", err)
	}
	if said := log.String(); strings.Contains(said, canary) || !strings.Contains(said, "serve_test.go") {
		t.Error("the log has the secret, or not where it happened")
	}
}

// The method's context ends with the caller's, and the answer is then the
// context's, whatever the method returns.
func TestCancellation(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	client := validator(t, func(ctx context.Context, _ ValidateRequest) (ValidateResult, error) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return Accept(), errors.New(canary)
	})
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := client.Validate(ctx, opaque())
		failed <- err
	}()
	<-entered
	cancel()
	if err := <-failed; status.Code(err) != codes.Canceled {
		t.Errorf("the caller gets %v", status.Code(err))
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the method's context ends with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the method's context does not end")
	}
	for ended, want := range map[error]codes.Code{context.Canceled: codes.Canceled, context.DeadlineExceeded: codes.DeadlineExceeded} {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(nil)
		if errors.Is(ended, context.DeadlineExceeded) {
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(context.Background(), -time.Second)
			defer stop()
		}
		if err := noAnswer(ctx, secret.NewStriker(), errors.New("dial: operation was canceled")); status.Code(err) != want {
			t.Errorf("after %v: %v", ended, err)
		}
	}
}

func TestConfig(t *testing.T) {
	type config struct {
		Prefix string `json:"prefix"`
	}
	for text, want := range map[string]string{
		"": "", "  ": "", "{}": "", `{"prefix": "acme_"}`: "",
		`{"prefx": "acme_"}`: "prefx", `{"prefix": 1}`: "prefix",
		"null": "not a JSON object", `[]`: "not a JSON object", `"x"`: "not a JSON object", "{": "not a JSON object", "{} {}": "not a JSON object",
	} {
		var c config
		err := Config(text).Decode(&c)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if strings.Contains(text, "acme_") && err == nil && c.Prefix != "acme_" {
			t.Errorf("%s: read as %+v", text, c)
		}
	}
}

// A plugin that ignores its configuration is not asked with a broken one.
func TestBrokenConfig(t *testing.T) {
	validating := validator(t, func(context.Context, ValidateRequest) (ValidateResult, error) { return Accept(), nil })
	request := opaque()
	request.Config = `{"a": `
	if _, err := validating.Validate(t.Context(), request); status.Code(err) != codes.InvalidArgument {
		t.Errorf("validate: %v", err)
	}
	syncing := syncer(t, func(context.Context, SyncRequest) (SyncResult, error) { return Done(), nil })
	_, err := syncing.Sync(t.Context(), &pluginpb.SyncRequest{Change: pluginpb.SyncRequest_CHANGE_SET, Config: "[]"})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("sync: %v", err)
	}
}

func TestSync(t *testing.T) {
	const done, failed = pluginpb.SyncResponse_OUTCOME_DONE, pluginpb.SyncResponse_OUTCOME_FAILED
	for name, c := range map[string]struct {
		result SyncResult
		want   *pluginpb.SyncResponse
	}{
		"done":             {Done(), &pluginpb.SyncResponse{Outcome: done}},
		"fail":             {Fail("%d of them", 3), &pluginpb.SyncResponse{Outcome: failed, Message: "3 of them"}},
		"zero":             {SyncResult{}, &pluginpb.SyncResponse{Outcome: failed}},
		"retry":            {Fail("busy").RetryAfter(90 * time.Second), &pluginpb.SyncResponse{Outcome: failed, Message: "busy", RetryAfterSeconds: 90}},
		"a short retry":    {Fail("busy").RetryAfter(time.Millisecond), &pluginpb.SyncResponse{Outcome: failed, Message: "busy", RetryAfterSeconds: 1}},
		"a long retry":     {Fail("busy").RetryAfter(1000 * time.Hour), &pluginpb.SyncResponse{Outcome: failed, Message: "busy", RetryAfterSeconds: 86400}},
		"a negative retry": {Fail("busy").RetryAfter(-time.Hour), &pluginpb.SyncResponse{Outcome: failed, Message: "busy"}},
		"the secret":       {Fail("no %s", canary), &pluginpb.SyncResponse{Outcome: failed, Message: "no " + secret.Redacted}},
	} {
		t.Run(name, func(t *testing.T) {
			client := syncer(t, func(context.Context, SyncRequest) (SyncResult, error) { return c.result, nil })
			got, err := client.Sync(t.Context(), &pluginpb.SyncRequest{Change: pluginpb.SyncRequest_CHANGE_SET, Fields: map[string]string{ValueField: canary}})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestSyncRequest(t *testing.T) {
	var got SyncRequest
	calls := 0
	client := syncer(t, func(_ context.Context, r SyncRequest) (SyncResult, error) {
		got = r
		calls++
		return SyncResult{}, errors.New("the other side said " + canary)
	})
	request := &pluginpb.SyncRequest{
		Change: pluginpb.SyncRequest_CHANGE_SET, Place: &pluginpb.Place{Org: "o", Integration: "acme", Name: "default"}, CredentialId: "cred-1",
		Version: 7, Fields: map[string]string{ValueField: canary}, IdempotencyKey: "k", Attempt: 3, Config: "{}",
	}
	_, err := client.Sync(t.Context(), request)
	if s := status.Convert(err); s.Code() != codes.Unavailable || s.Message() != "the other side said "+secret.Redacted {
		t.Errorf("got %v: %s", s.Code(), s.Message())
	}
	if got.Change != Set || got.CredentialID != "cred-1" || got.Version != 7 || got.IdempotencyKey != "k" || got.Attempt != 3 ||
		got.Place != (Place{Org: "o", Integration: "acme", Name: "default"}) || !got.Value().Equal(secret.New(canary)) {
		t.Errorf("got %+v", got)
	}
	request.Change, request.Fields = pluginpb.SyncRequest_CHANGE_REMOVE, nil
	if _, err := client.Sync(t.Context(), request); err == nil || got.Change != Remove || len(got.Fields) != 0 {
		t.Errorf("a removal: %v, %+v", err, got)
	}
	for _, unknown := range []pluginpb.SyncRequest_Change{pluginpb.SyncRequest_CHANGE_UNSPECIFIED, 99} {
		request.Change = unknown
		if _, err := client.Sync(t.Context(), request); status.Code(err) != codes.Unimplemented || calls != 2 {
			t.Errorf("the change %d: %v, %d calls", unknown, err, calls)
		}
	}
}

func TestDescribe(t *testing.T) {
	client := pluginpb.NewPluginClient(dial(t, func(s *grpc.Server) {
		pluginpb.RegisterPluginServer(s, describer{info: Info{Name: "acme", Version: "1.2.3", Description: "Asks Acme."}, service: pluginpb.ServiceSyncer})
	}))
	got, err := client.Describe(t.Context(), &pluginpb.DescribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &pluginpb.DescribeResponse{Name: "acme", Version: "1.2.3", Description: "Asks Acme.", Services: []string{"syncer"}}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
