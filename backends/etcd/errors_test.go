package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

const secretWord = "hunter2-CANARY"

// checkLine wants an error of a kind, on one line, that says what to do and not the
// password.
func checkLine(t *testing.T, err error, kind error, says string) {
	t.Helper()
	t.Logf("%v", err)
	switch {
	case err == nil:
		t.Error("there is no error")
	case kind != nil && !errors.Is(err, kind):
		t.Errorf("got %v, want %v", err, kind)
	case !strings.Contains(err.Error(), says):
		t.Errorf("got %q, want it to say %q", err, says)
	case strings.ContainsAny(err.Error(), "\n") || len(err.Error()) > 400:
		t.Errorf("not a line: %q", err)
	}
	if err != nil && strings.Contains(fmt.Sprintf("%+v %#v", err, err), secretWord) {
		t.Error("the error holds the password")
	}
}

func refuse(t *testing.T, url string, kind error, says string) {
	t.Helper()
	b, err := Open(t.Context(), url, nil)
	if err == nil {
		b.Close()
	}
	checkLine(t, err, kind, says)
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := l.Addr().String()
	start := time.Now()
	refuse(t, "etcd://u:"+secretWord+"@"+silent+"/p?dial-timeout=500ms", backends.ErrUnavailable, "no answer in time")
	l.Close()
	refuse(t, "etcd://u:"+secretWord+"@"+silent+"/p?dial-timeout=1s", backends.ErrUnavailable, "nothing listens there")
	refuse(t, "etcd://"+silent+"/p", backends.ErrUnavailable, "nothing listens there")
	refuse(t, "etcd://no-such-host.invalid/p?dial-timeout=2s", backends.ErrUnavailable, "the host is unknown")
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, "etcd://"+silent+"/p", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with an ended context: got %v", err)
	}
}

// oldMember is a member that answers as etcd 3.4 would.
type oldMember struct {
	pb.UnimplementedMaintenanceServer
}

func (oldMember) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Version: "3.4.37"}, nil
}

func TestOldVersion(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	pb.RegisterMaintenanceServer(s, oldMember{})
	go s.Serve(l)
	defer s.Stop()
	refuse(t, "etcd://"+l.Addr().String()+"/p", backends.ErrUnavailable, `etcd "3.4.37" is too old: run 3.5 or later`)
	for version, want := range map[string]bool{"3.5.0": true, "3.7.3": true, "4.0.0-rc.1": true, "3.4.9": false, "2.9.9": false, "": false, "3": false, "x.y": false} {
		if recent(version) != want {
			t.Errorf("version %q: want %t", version, want)
		}
	}
}

func TestForeignPrefix(t *testing.T) {
	c := testserver.SharedEtcd(t)
	url := c.URL()
	tgt, err := parse(url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client(t).Put(t.Context(), string(tgt.prefix)+"/registry", "x"); err != nil {
		t.Fatal(err)
	}
	refuse(t, url, backends.ErrCorrupt, "give a prefix of its own")
	if _, err := c.Client(t).Put(t.Context(), string(tgt.prefix)+"/head", "\x02from the future"); err != nil {
		t.Fatal(err)
	}
	refuse(t, url, backends.ErrUnavailable, "use a newer Sidevault")
}

// authorized turns authentication on in a cluster of its own, with a user that may
// use /mine only.
func authorized(t *testing.T, flags ...string) *testserver.Cluster {
	t.Helper()
	c := testserver.StartEtcd(t, testserver.EtcdConfig{Nodes: 1, Flags: append(flags, "--bcrypt-cost", "4")})
	client := c.Client(t)
	ctx := t.Context()
	_, err1 := client.UserAdd(ctx, "root", "root")
	_, err2 := client.UserGrantRole(ctx, "root", "root")
	_, err3 := client.RoleAdd(ctx, "mine")
	_, err4 := client.RoleGrantPermission(ctx, "mine", "/mine/", clientv3.GetPrefixRangeEnd("/mine/"), clientv3.PermissionType(clientv3.PermReadWrite))
	_, err5 := client.UserAdd(ctx, "vault", secretWord)
	_, err6 := client.UserGrantRole(ctx, "vault", "mine")
	_, err7 := client.RoleAdd(ctx, "reader")
	_, err8 := client.RoleGrantPermission(ctx, "reader", "/read/", clientv3.GetPrefixRangeEnd("/read/"), clientv3.PermissionType(clientv3.PermRead))
	_, err9 := client.UserGrantRole(ctx, "vault", "reader")
	_, err10 := client.AuthEnable(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAuthentication(t *testing.T) {
	c := authorized(t, "--auth-token-ttl", "1")
	host := c.Hosts()[0]
	b := open(t, "etcd://vault:"+secretWord+"@"+host+"/mine")
	at, err := b.Commit(t.Context(), put("k", 0, "v"))
	if err != nil {
		t.Fatal(err)
	}
	events, err := b.Watch(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secretWord+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := open(t, "etcd://vault@"+host+"/mine?password-file="+file)
	if r, err := other.Get(t.Context(), "k"); err != nil || string(r.Value) != "v" {
		t.Errorf("Get = %q, %v", r.Value, err)
	}
	refuse(t, "etcd://vault:"+secretWord+"x@"+host+"/mine", backends.ErrUnavailable, "refuses the user or the password")
	refuse(t, "etcd://nobody:"+secretWord+"@"+host+"/mine", backends.ErrUnavailable, "refuses the user or the password")
	refuse(t, "etcd://"+host+"/mine", backends.ErrUnavailable, "wants a user")
	refuse(t, "etcd://vault:"+secretWord+"@"+host+"/theirs", backends.ErrUnavailable, `user "vault" may not read and write there`)

	reader := open(t, "etcd://vault:"+secretWord+"@"+host+"/read")
	_, err = reader.Commit(t.Context(), put("k", 0, "v"))
	checkLine(t, err, backends.ErrUnavailable, `user "vault" may not read and write there`)

	time.Sleep(2500 * time.Millisecond) // the tokens expire
	next, err := b.Commit(t.Context(), put("k", at, "w"))
	if err != nil {
		t.Fatalf("after the token expired: %v", err)
	}
	if e := <-events; e.Revision != next {
		t.Errorf("got event %d, want %d", e.Revision, next)
	}
	for _, v := range []any{b, parsed(t, "etcd://vault:"+secretWord+"@"+host+"/mine")} {
		if strings.Contains(fmt.Sprintf("%v %+v %#v", v, v, v), secretWord) {
			t.Errorf("%T prints the password", v)
		}
	}
}

func parsed(t *testing.T, url string) target {
	t.Helper()
	tgt, err := parse(url)
	if err != nil {
		t.Fatal(err)
	}
	return tgt
}

func TestTLS(t *testing.T) {
	c := testserver.StartEtcd(t, testserver.EtcdConfig{Nodes: 1, TLS: true})
	host := c.Hosts()[0]
	b := open(t, c.URL())
	if _, err := b.Commit(t.Context(), put("k", 0, "v")); err != nil {
		t.Fatal(err)
	}
	refuse(t, "etcd://"+host+"/p?dial-timeout=2s", backends.ErrUnavailable, "it may want TLS")
	refuse(t, "etcd://"+host+"/p?tls=true", backends.ErrUnavailable, "the server's certificate does not pass")
	refuse(t, "etcd://"+host+"/p?dial-timeout=2s&ca="+c.CA, backends.ErrUnavailable, "cert=")
	refuse(t, "etcd://"+host+"/p?ca="+c.Key, nil, "holds no PEM certificate")
	refuse(t, "etcd://"+host+"/p?ca=/none", nil, "no such file")
	refuse(t, "etcd://"+host+"/p?cert=/none&key=/none", nil, "no such file")
	plain := testserver.SharedEtcd(t).Hosts()[0]
	refuse(t, "etcd://"+plain+"/p?ca="+c.CA, backends.ErrUnavailable, "does not speak TLS")
}

func TestNoSpace(t *testing.T) {
	c := testserver.StartEtcd(t, testserver.EtcdConfig{Nodes: 1, Flags: []string{"--quota-backend-bytes", fmt.Sprint(16 << 20)}})
	b := open(t, c.URL())
	var err error
	for n := 0; n < 30 && err == nil; n++ {
		_, err = b.Commit(t.Context(), put(fmt.Sprint(n), 0, strings.Repeat("x", backends.MaxValue)))
	}
	checkLine(t, err, backends.ErrUnavailable, "space quota is used up")
	if _, err := b.Get(t.Context(), "0"); err != nil {
		t.Errorf("reading from a full cluster: %v", err)
	}
}

func TestSmallLimits(t *testing.T) {
	c := testserver.StartEtcd(t, testserver.EtcdConfig{Nodes: 1, Flags: []string{"--max-txn-ops", "8", "--max-request-bytes", "20000"}})
	b := open(t, c.URL())
	var many []backends.Change
	for n := range 10 {
		many = append(many, backends.Put(fmt.Sprint(n), 0, nil))
	}
	_, err := b.Commit(t.Context(), backends.Batch{Changes: many})
	checkLine(t, err, backends.ErrUnavailable, "--max-txn-ops")
	_, err = b.Commit(t.Context(), put("k", 0, strings.Repeat("x", 20000)))
	checkLine(t, err, backends.ErrUnavailable, "--max-request-bytes")
	if _, err = b.Commit(t.Context(), put("k", 0, "small")); err != nil {
		t.Error(err)
	}
}
