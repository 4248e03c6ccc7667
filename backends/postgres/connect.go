package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sidevault/sidevault/backends"
)

const minServer = 14

// connect makes the pool and brings the schema up to date, or leaves nothing.
func (b *Backend) connect(ctx context.Context, config *pgxpool.Config) error {
	conn := config.ConnConfig
	if conn.ConnectTimeout <= 0 {
		conn.ConnectTimeout = defaultConnectTimeout
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	conn.DialFunc = dialer.DialContext
	chosen := conn.ValidateConnect
	conn.ValidateConnect = func(ctx context.Context, c *pgconn.PgConn) error {
		if err := checkServer(c); err != nil || chosen == nil {
			return err
		}
		return chosen(ctx, c)
	}
	name := cmp.Or(conn.RuntimeParams["application_name"], "sidevault")
	conn.RuntimeParams["application_name"] = name
	b.dial = conn.Copy()
	b.dial.RuntimeParams["application_name"] = name + " watch"
	config.AfterConnect = b.prepareSession
	config.PrepareConn = func(_ context.Context, c *pgx.Conn) (bool, error) { return alive(c.PgConn().Conn()), nil }
	config.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > 10*time.Second }
	config.PingTimeout = conn.ConnectTimeout
	b.attempts = config.MaxConns + 1
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return b.place.explain(err)
	}
	b.pool = pool
	if err := b.openSchema(ctx); err != nil {
		pool.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return b.place.explain(err)
	}
	return nil
}

// checkServer looks at what the server has said of itself. With several hosts in
// the URL, one that is refused here is passed over.
func checkServer(c *pgconn.PgConn) error {
	version := c.ParameterStatus("server_version")
	digits := version[:len(version)-len(strings.TrimLeft(version, "0123456789"))]
	if n, err := strconv.Atoi(digits); err != nil || n < minServer {
		return refuse(nil, "the server is PostgreSQL %q: upgrade it to %d or newer", version, minServer)
	}
	if c.ParameterStatus("in_hot_standby") == "on" {
		return refuse(backends.ErrUnavailable, "%v: the server is a read-only replica: give the address of the primary", backends.ErrUnavailable)
	}
	if encoding := c.ParameterStatus("server_encoding"); encoding != "UTF8" {
		return refuse(nil, "the database is in the encoding %s: create it with ENCODING 'UTF8'", encoding)
	}
	return nil
}

// prepareSession makes the session independent of what the server, the database
// and the role default to. Every statement of this package has an index, and a
// plan that was made while a table was small must not outlive that.
func (b *Backend) prepareSession(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, `SELECT set_config('client_encoding', 'UTF8', false), set_config('search_path', 'pg_catalog', false),
		set_config('default_transaction_isolation', 'read committed', false), set_config('statement_timeout', $1, false),
		set_config('lock_timeout', '0', false), set_config('idle_session_timeout', '0', false),
		set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false), set_config('jit', 'off', false)`,
		strconv.FormatInt(b.timeout.Milliseconds(), 10))
	return err
}

// alive returns false when the server has closed an idle connection, or has said
// something on it. Finding that out before anything is sent keeps a commit's
// outcome known.
func alive(c net.Conn) bool {
	if wrapped, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = wrapped.NetConn()
	}
	socket, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var buf [1]byte
		_, _, err := syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
	})
	return err == nil && quiet
}

// statements is the SQL, with the schema filled in.
type statements struct {
	get, list, listFrom, log, head, changes, commit, listen string
}

func newStatements(schema string) statements {
	fill := func(sql string) string { return strings.ReplaceAll(sql, "@schema@", pgx.Identifier{schema}.Sanitize()) }
	return statements{
		get:      fill(`SELECT value, revision FROM @schema@.records WHERE key = $1`),
		list:     fill(`SELECT key, value, revision FROM @schema@.records WHERE key >= $1 AND key < $3 ORDER BY key LIMIT $2`),
		listFrom: fill(`SELECT key, value, revision FROM @schema@.records WHERE key >= $1 ORDER BY key LIMIT $2`),
		log:      fill(`SELECT seq, prev, hash, body FROM @schema@.log WHERE seq > $1 ORDER BY seq LIMIT $2`),
		head:     fill(`SELECT revision, seq, hash, floor FROM @schema@.head`),
		changes: fill(`SELECT h.revision, h.floor, c.revision, c.keys FROM @schema@.head h LEFT JOIN LATERAL
			(SELECT revision, keys FROM @schema@.changes WHERE revision > $1 ORDER BY revision LIMIT $2) c ON true ORDER BY c.revision`),
		commit: fill(`SELECT committed, refused_key, refused_at FROM @schema@.commit_batches($1, $2, $3, $4, $5, $6, $7, $8, $9)`),
		listen: fmt.Sprintf("LISTEN %s", pgx.Identifier{channel(schema)}.Sanitize()),
	}
}

// channel is the name under which commits are notified.
func channel(schema string) string { return "sidevault_" + schema }
