package testserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// patience is how long a server may take to come up.
const patience = 30 * time.Second

// EtcdConfig says what kind of cluster to start.
type EtcdConfig struct {
	Nodes int      // 1 or 3
	TLS   bool     // clients must come over TLS with a certificate of the cluster's CA
	Sync  bool     // wait for the disk, as in production; a killed server needs none
	Flags []string // further ones of etcd
}

// Cluster is a running etcd cluster.
type Cluster struct {
	// CA, Cert and Key are the files for clients of a cluster with TLS.
	CA, Cert, Key string

	cfg      EtcdConfig
	program  string
	dir      string
	nodes    []*node
	prefixes atomic.Int64
}

type node struct {
	client, peer int // ports
	*process
}

// Etcd starts a cluster of 1 or 3 nodes that ends with the test.
func Etcd(t testing.TB, nodes int) *Cluster {
	t.Helper()
	return StartEtcd(t, EtcdConfig{Nodes: nodes})
}

// SharedEtcd returns a cluster of one node that all tests of the binary share. It
// must not be stopped; see [Run].
func SharedEtcd(t testing.TB) *Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster != nil {
		return shared.cluster
	}
	dir, err := os.MkdirTemp("", "etcd-")
	if err != nil {
		t.Fatal(err)
	}
	c, err := startEtcd(dir, EtcdConfig{Nodes: 1})
	if err != nil {
		t.Fatal(errors.Join(err, os.RemoveAll(dir)))
	}
	shared.cluster = c
	shared.stops = append(shared.stops, func() {
		c.stopAll()
		os.RemoveAll(dir)
	})
	return c
}

// StartEtcd starts a cluster that ends with the test.
func StartEtcd(t testing.TB, cfg EtcdConfig) *Cluster {
	t.Helper()
	c, err := startEtcd(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stopAll)
	return c
}

func startEtcd(dir string, cfg EtcdConfig) (*Cluster, error) {
	program, err := tool("etcd")
	if err != nil {
		return nil, err
	}
	c := &Cluster{cfg: cfg, program: program, dir: dir}
	if cfg.TLS {
		if err := c.makeCertificates(); err != nil {
			return nil, err
		}
	}
	// Another process may take a port between the choice and the start.
	for range 5 {
		if err = c.startAll(); err == nil {
			return c, nil
		}
		c.stopAll()
	}
	return nil, err
}

func (c *Cluster) startAll() error {
	ports, err := freePorts(2 * c.cfg.Nodes)
	if err != nil {
		return err
	}
	c.nodes = nil
	if err := os.RemoveAll(filepath.Join(c.dir, "data")); err != nil {
		return err
	}
	for i := range c.cfg.Nodes {
		c.nodes = append(c.nodes, &node{client: ports[2*i], peer: ports[2*i+1]})
	}
	for i := range c.nodes {
		if err := c.launch(i); err != nil {
			return err
		}
	}
	for i := range c.nodes {
		if err := c.await(i); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) launch(i int) (err error) {
	var members []string
	for j, n := range c.nodes {
		members = append(members, fmt.Sprintf("n%d=http://127.0.0.1:%d", j, n.peer))
	}
	n := c.nodes[i]
	client, peer := c.Endpoints()[i], fmt.Sprintf("http://127.0.0.1:%d", n.peer)
	args := []string{
		"--name", fmt.Sprint("n", i), "--data-dir", filepath.Join(c.dir, "data", fmt.Sprint("n", i)),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", strings.Join(members, ","), "--initial-cluster-token", filepath.Base(c.dir),
		"--log-level", "error",
	}
	if !c.cfg.Sync {
		args = append(args, "--unsafe-no-fsync")
	}
	if c.cfg.TLS {
		args = append(args, "--cert-file", c.file("server.pem"), "--key-file", c.file("server.key"),
			"--trusted-ca-file", c.CA, "--client-cert-auth")
	}
	n.process, err = start(c.program, append(args, c.cfg.Flags...)...)
	return err
}

// await returns when the node answers a linearizable read.
func (c *Cluster) await(i int) error {
	client, err := c.dial(c.Endpoints()[i])
	if err != nil {
		return err
	}
	defer client.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := client.Get(ctx, "/")
		cancel()
		switch {
		case err == nil, strings.Contains(err.Error(), "user name is empty"):
			return nil
		case c.nodes[i].ended():
			return fmt.Errorf("etcd ended: %s", c.nodes[i].out)
		case time.Now().After(deadline):
			return fmt.Errorf("etcd does not answer within %v: %w: %s", patience, err, c.nodes[i].out)
		}
	}
}

func (c *Cluster) dial(endpoints ...string) (*clientv3.Client, error) {
	cfg := clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()}
	if c.cfg.TLS {
		var err error
		if cfg.TLS, err = c.clientTLS(); err != nil {
			return nil, err
		}
	}
	return clientv3.New(cfg)
}

// Client returns etcd's own client of the cluster.
func (c *Cluster) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	client, err := c.dial(c.Endpoints()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// Endpoints returns the URLs of the nodes, as etcd's client takes them.
func (c *Cluster) Endpoints() []string {
	scheme := "http"
	if c.cfg.TLS {
		scheme = "https"
	}
	endpoints := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		endpoints[i] = fmt.Sprintf("%s://127.0.0.1:%d", scheme, n.client)
	}
	return endpoints
}

// Hosts returns the nodes as host:port.
func (c *Cluster) Hosts() []string {
	hosts := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		hosts[i] = fmt.Sprintf("127.0.0.1:%d", n.client)
	}
	return hosts
}

// URL returns the storage URL of a prefix that nobody uses, with the parameters of
// TLS where the cluster has it.
func (c *Cluster) URL() string {
	url := fmt.Sprintf("etcd://%s/test/%d", strings.Join(c.Hosts(), ","), c.prefixes.Add(1))
	if c.cfg.TLS {
		url += fmt.Sprintf("?tls=true&ca=%s&cert=%s&key=%s", c.CA, c.Cert, c.Key)
	}
	return url
}

// Stop ends a node in order.
func (c *Cluster) Stop(i int) { c.nodes[i].stop(syscall.SIGTERM) }

// Kill ends a node at once.
func (c *Cluster) Kill(i int) { c.nodes[i].stop(syscall.SIGKILL) }

// Pause stops a node's process from running, with its connections open; Resume
// lets it go on.
func (c *Cluster) Pause(i int) {
	node := c.nodes[i].cmd.Process
	node.Signal(syscall.SIGSTOP)
	awaitStopped(node.Pid)
}

func (c *Cluster) Resume(i int) { c.nodes[i].cmd.Process.Signal(syscall.SIGCONT) }

// Start starts a node again that was stopped, with its data, and waits for it.
func (c *Cluster) Start(t testing.TB, i int) {
	t.Helper()
	if err := c.launch(i); err != nil {
		t.Fatal(err)
	}
	if err := c.await(i); err != nil {
		t.Fatal(err)
	}
}

// Launch starts a node again and does not wait for it.
func (c *Cluster) Launch(t testing.TB, i int) {
	t.Helper()
	if err := c.launch(i); err != nil {
		t.Fatal(err)
	}
}

// Leader returns the node that leads the cluster.
func (c *Cluster) Leader(t testing.TB) int {
	t.Helper()
	client := c.Client(t)
	defer client.Close()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for i, endpoint := range c.Endpoints() {
			if c.nodes[i].ended() {
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			status, err := client.Status(ctx, endpoint)
			cancel()
			if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				return i
			}
		}
	}
	t.Fatalf("the cluster has no leader within %v", patience)
	return 0
}

func (c *Cluster) stopAll() {
	for _, n := range c.nodes {
		if n.process != nil && !n.ended() {
			n.stop(syscall.SIGKILL)
		}
	}
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }
