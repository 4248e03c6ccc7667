package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/stats"

	"github.com/sidevault/sidevault/backends"
)

// Options are what a URL does not say. The zero value is the default.
type Options struct {
	// Timeout bounds each request to the cluster. The default is 5 s, which
	// outlasts an election.
	Timeout time.Duration
}

const (
	defaultTimeout     = 5 * time.Second
	defaultDialTimeout = 5 * time.Second
	probe              = 500 * time.Millisecond
	queueLength        = 256
)

// Open connects to the cluster of a URL:
//
//	etcd://USER:PASSWORD@HOST:PORT,HOST:PORT/PREFIX?PARAMETERS
//
// The user, the ports (2379) and the prefix (/sidevault) may be left out. The
// parameters are tls=true, ca=FILE (else the host's own), cert=FILE with key=FILE,
// dial-timeout=2s (5s), and password-file=FILE, a file of mode 0600, instead of a
// password in the URL. No error quotes the password.
//
// It waits at most the dial timeout, and fails when no member answers, the cluster
// has no quorum or is older than 3.5, or the prefix holds something else. Storage
// that is not there yet begins with the first commit.
func Open(ctx context.Context, url string, o *Options) (*Backend, error) {
	t, err := parse(url)
	if err != nil {
		return nil, fmt.Errorf("the etcd URL: %w", err)
	}
	b := &Backend{
		layout: t.prefix, name: "etcd at " + strings.Join(t.hosts, ","), user: t.user, timeout: defaultTimeout,
		queue: make(chan *request, queueLength), committed: make(chan struct{}),
	}
	if o != nil && o.Timeout > 0 {
		b.timeout = o.Timeout
	}
	if t.dialTimeout == 0 {
		t.dialTimeout = defaultDialTimeout
	}
	if err := b.connect(ctx, t); err != nil {
		return nil, err
	}
	dial, cancel := context.WithTimeout(ctx, t.dialTimeout)
	defer cancel()
	if err := b.examine(dial); err != nil {
		b.client.Close()
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = b.describe(context.DeadlineExceeded)
		}
		return nil, err
	}
	b.watching, b.unwatch = context.WithCancel(context.Background())
	go b.committer()
	return b, nil
}

// connect makes the client and, with a user, logs in.
func (b *Backend) connect(ctx context.Context, t target) error {
	cfg := clientv3.Config{
		Username: t.user, Password: t.password.reveal(), DialTimeout: t.dialTimeout,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		Logger: zap.NewNop(), // it names users and members
		// One attempt, and one more with a fresh token when the old one expired.
		MaxUnaryRetries: 2,
		DialOptions:     dialOptions(t.dialTimeout),
	}
	if cfg.Password == "" {
		cfg.Username = "" // known by its certificate
	}
	protocol := "http://"
	if t.tls {
		var err error
		if cfg.TLS, err = t.tlsConfig(); err != nil {
			return err
		}
		protocol = "https://"
	}
	for _, host := range t.hosts {
		cfg.Endpoints = append(cfg.Endpoints, protocol+host)
	}
	base, cancel := context.WithCancel(context.Background())
	cfg.Context = base
	defer context.AfterFunc(ctx, cancel)()
	var err error
	if b.client, err = clientv3.New(cfg); err != nil {
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return b.describe(explain(cfg, err))
	}
	return nil
}

// explain finds out why logging in took too long: that call of the client waits for
// a connection and keeps to itself why there is none.
func explain(cfg clientv3.Config, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	cfg.Username, cfg.Password, cfg.Context = "", "", nil
	client, failed := clientv3.New(cfg)
	if failed != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), probe)
	defer cancel()
	_, failed = pb.NewMaintenanceClient(client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if failed == nil || fromServer(failed) {
		return err
	}
	return failed
}

// dialOptions keep the pauses between the attempts to connect short: gRPC's own
// grow to two minutes, which storage that is back would have to wait for.
func dialOptions(timeout time.Duration) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: timeout,
		}),
		grpc.WithStatsHandler(wire{}),
	}
}

// examine looks whether the cluster and what is below the prefix are fit for use.
func (b *Backend) examine(ctx context.Context) error {
	var version string
	err := b.try(ctx, false, func(ctx context.Context) error {
		status, err := pb.NewMaintenanceClient(b.client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
		version = status.GetVersion()
		return err
	})
	if err != nil {
		return err
	}
	if !recent(version) {
		return fmt.Errorf("%s: %w: etcd %.20q is too old: run 3.5 or later", b.name, backends.ErrUnavailable, version)
	}
	at, err := b.readHead(ctx, false)
	if err != nil || at.mod != 0 {
		return err
	}
	return b.try(ctx, false, func(ctx context.Context) error {
		resp, err := b.client.Get(ctx, string(b.layout)+"/", clientv3.WithPrefix(), clientv3.WithLimit(1), clientv3.WithKeysOnly())
		if err == nil && len(resp.Kvs) > 0 && string(resp.Kvs[0].Key) != b.layout.head() {
			return fmt.Errorf("%w: there are keys and no head: give a prefix of its own", backends.ErrCorrupt)
		}
		return err
	})
}

func recent(version string) bool {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (major > 3 || major == 3 && minor >= 5)
}

func (t target) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return nil, fmt.Errorf("the etcd URL: ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the etcd URL: ca: %s holds no PEM certificate", t.ca)
		}
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("the etcd URL: cert and key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// wire notes in a call's context that the request has left for a member: an error
// before that is sure to have changed nothing.
type wire struct{}

type sentKey struct{}

// withSent returns a context for a call, and whether the request was sent.
func withSent(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := new(atomic.Bool)
	return context.WithValue(ctx, sentKey{}, sent), sent
}

func (wire) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); ok {
		if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
			sent.Store(true)
		}
	}
}

func (wire) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (wire) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (wire) HandleConn(context.Context, stats.ConnStats)                       {}
