package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sidevault/sidevault/backends"
)

// transient is true of what may pass by itself: no leader, a lost connection, a
// member that hangs.
func transient(err error) bool {
	switch code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal, codes.Unknown:
		return !ours(err)
	}
	return false
}

// fromServer is true when a member answered and could not help.
func fromServer(err error) bool {
	var server rpctypes.EtcdError
	return errors.As(rpctypes.Error(err), &server) || strings.Contains(err.Error(), "etcdserver: ")
}

// ours is true of an error that a parser of this package made.
func ours(err error) bool {
	return errors.Is(err, backends.ErrCorrupt) || errors.Is(err, backends.ErrUnavailable)
}

func code(err error) codes.Code {
	var server rpctypes.EtcdError
	switch {
	case errors.As(err, &server):
		return server.Code()
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	}
	return status.Code(err)
}

// advice is what to do about an error of etcd that says this.
var advice = []struct{ says, do string }{
	{"invalid user ID or password", "etcd refuses the user or the password: check both"},
	{"user name is empty", "etcd wants a user: name one in the URL, and a file with the password in password-file="},
	{"permission denied", permission},
	{"database space exceeded", "etcd's space quota is used up (alarm NOSPACE): compact and defragment it, then disarm the alarm"},
	{"too many operations in txn", "etcd takes too few operations in a transaction: run it with --max-txn-ops=128 or more"},
	{"request is too large", "etcd takes too small requests: run it with --max-request-bytes=1572864 or more"},
	{"too many requests", "etcd is overloaded: try again"},
	{"no leader", "the cluster has no leader: see that more than half of its members run"},
	{"leader changed", "the cluster is choosing a leader: try again"},
	{"etcdserver: request timed out", "the cluster has no quorum: see that more than half of its members run"},
	{"no such host", "the host is unknown: check the hosts in the URL"},
	{"produced zero addresses", "the host is unknown: check the hosts in the URL"},
	{"tls: first record does not look like", "the server does not speak TLS: take tls=true and ca= out of the URL, or turn TLS on there"},
	{"handshake failed: EOF", "the server does not speak TLS: take tls=true and ca= out of the URL, or turn TLS on there"},
	{"x509: ", "the server's certificate does not pass: check ca= and the host in the URL"},
	{"tls: ", "TLS failed: check ca=, cert= and key= in the URL"},
	{"server preface", hungUp}, {"broken pipe", hungUp}, {"connection reset", hungUp}, {"EOF", hungUp},
	{"connection refused", "nothing listens there: start etcd or check the hosts in the URL"},
}

const (
	permission = "the user may not read and write there"
	hungUp     = "the server hung up: it may want TLS (tls=true, or ca=) or a certificate (cert= and key=)"
	noAnswer   = "no answer in time: see that more than half of the members run and can be reached"
)

// describe turns an error of the client into one of the contract, on one line.
func (b *Backend) describe(err error) error {
	if ours(err) {
		return b.located(err)
	}
	if errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("%s: %w", b.name, backends.ErrCompacted)
	}
	text := plain(err)
	do := noAnswer
	for _, a := range advice {
		if strings.Contains(text, a.says) {
			do = a.do
			break
		}
	}
	switch {
	case strings.Contains(text, "use of closed network connection"): // by us, for want of an answer
		text, do = "", noAnswer
	case do == permission:
		do = fmt.Sprintf("user %q may not read and write there: etcdctl role grant-permission ROLE readwrite --prefix=true %s/", b.user, b.layout)
	case do == noAnswer && !fromServer(err) && code(err) == codes.DeadlineExceeded:
		text = ""
	case do == noAnswer && !transient(err):
		do = text
	}
	sentinel := backends.ErrUnavailable
	if strings.Contains(text, rpctypes.ErrCorrupt.Error()) {
		sentinel, do = backends.ErrCorrupt, "the members disagree (alarm CORRUPT): replace the damaged one"
	}
	if text == "" || text == do || strings.HasPrefix(text, "etcdserver: ") {
		return fmt.Errorf("%s: %w: %s", b.name, sentinel, do)
	}
	return fmt.Errorf("%s: %w: %s (%s)", b.name, sentinel, do, text)
}

// plain returns the innermost text of an error of gRPC, on one line.
func plain(err error) string {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	if i := strings.LastIndex(text, "desc = "); i >= 0 {
		text = text[i+len("desc = "):]
	}
	text = strings.TrimPrefix(strings.Trim(strings.ReplaceAll(text, "\n", "; "), `"`), "transport: ")
	return strings.TrimPrefix(text, "Error while dialing: ")
}

func (b *Backend) located(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s%s: %w", b.name, b.layout, err)
}
