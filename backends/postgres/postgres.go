// Package postgres is the storage backend for several hosts: one schema of a
// PostgreSQL database, version 14 or newer.
//
// A commit is one round trip: a function in the schema locks the head's row,
// which orders the commits of all hosts, judges each batch, applies it, chains the
// log and notifies the watchers. Batches that wait at the same time travel
// together; a lone one never waits for company.
//
// The package needs no superuser. It refuses a replica, a server that is too old,
// a database that is not in UTF-8, and a schema that is not its own or that a newer
// Sidevault has changed. It repairs nothing, and no error of it holds a password.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/internal/feed"
)

const (
	defaultCallTimeout = 5 * time.Second
	defaultHistory     = 1 << 16
)

// Options are the optional settings of [Open].
type Options struct {
	// CallTimeout bounds each call while the server does not answer; a commit
	// may take twice as long. The default is 5 seconds.
	CallTimeout time.Duration

	// History is how many of the last revisions Watch can go back. The default
	// is 65,536.
	History int
}

// Backend is a [backends.Backend] in a schema of a PostgreSQL database.
type Backend struct {
	place   place
	timeout time.Duration
	history int64
	sql     statements
	pool    *pgxpool.Pool
	dial    *pgx.ConnConfig // for the listener's own connection

	attempts int32 // one more than there can be dead connections in the pool

	closing   sync.Once
	calls     calls
	queue     chan *request
	committed chan struct{} // closed when the committer has ended

	background     context.Context // ends when Close begins to take down watches
	stopBackground context.CancelFunc
	watches        sync.WaitGroup // the listener and the replays

	mu   sync.Mutex // guards feed, and the order of what is published to it
	feed *feed.Feed // nil until the first Watch
}

// Open connects to the database that url names, and creates or brings up to date
// the schema in it. Beside the parameters that libpq and pgxpool know (sslmode,
// sslrootcert, passfile, connect_timeout, pool_max_conns, ...), url may have
// schema=NAME; the default is sidevault. Open does not try again: its error is one
// line that says what to do and holds no password.
func Open(ctx context.Context, url string, o *Options) (*Backend, error) {
	if o == nil {
		o = &Options{}
	}
	config, at, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	b := &Backend{place: at, timeout: o.CallTimeout, history: int64(o.History), sql: newStatements(at.schema)}
	if b.timeout <= 0 {
		b.timeout = defaultCallTimeout
	}
	if b.history <= 0 {
		b.history = defaultHistory
	}
	if err := b.connect(ctx, config); err != nil {
		return nil, err
	}
	b.calls.idle = make(chan struct{})
	b.queue = make(chan *request, maxGroup)
	b.committed = make(chan struct{})
	b.background, b.stopBackground = context.WithCancel(context.Background())
	go b.committer()
	return b, nil
}

func (b *Backend) Get(ctx context.Context, key string) (backends.Record, error) {
	if err := backends.ValidateKey(key); err != nil {
		return backends.Record{}, err
	}
	r := backends.Record{Key: key}
	var at int64
	err := b.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, b.sql.get, key).Scan(&r.Value, &at)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return backends.Record{}, fmt.Errorf("%w: key %q", backends.ErrNotFound, key)
	case err != nil:
		return backends.Record{}, err
	}
	if r, err = checkRecord(r, at); err != nil {
		return backends.Record{}, fmt.Errorf("%s: %w", b.place, err)
	}
	return r, nil
}

func (b *Backend) List(ctx context.Context, prefix, after string, limit int) ([]backends.Record, error) {
	if err := validLimit(limit); err != nil {
		return nil, err
	}
	first, end, some := keyRange(prefix, after)
	sql, args := b.sql.list, []any{first, limit, end}
	if end == "" {
		sql, args = b.sql.listFrom, args[:2]
	}
	var page []backends.Record
	err := b.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		page = nil
		if !some {
			return nil
		}
		var r backends.Record
		var at int64
		return each(ctx, c, sql, args, []any{&r.Key, &r.Value, &at}, func() error {
			sound, err := checkRecord(r, at)
			page = append(page, sound)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

func (b *Backend) Log(ctx context.Context, after uint64, limit int) ([]backends.Entry, error) {
	if err := validLimit(limit); err != nil {
		return nil, err
	}
	var page []backends.Entry
	err := b.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		page = nil
		var seq int64
		var prev, hash, body []byte
		args := []any{clamp(after), limit}
		return each(ctx, c, b.sql.log, args, []any{&seq, &prev, &hash, &body}, func() error {
			e := backends.Entry{Seq: uint64(seq), Body: body}
			if seq <= 0 || body == nil || len(prev) != len(e.Prev) || len(hash) != len(e.Hash) {
				return fmt.Errorf("%w: log entry %d has hashes of %d and %d bytes and a body of %d", backends.ErrCorrupt, seq, len(prev), len(hash), len(body))
			}
			e.Prev, e.Hash = backends.Hash(prev), backends.Hash(hash)
			page = append(page, e)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

func (b *Backend) Head(ctx context.Context) (backends.Head, error) {
	h, _, err := b.state(ctx)
	return h, err
}

// checkRecord returns the record with its revision, if both can be right.
func checkRecord(r backends.Record, at int64) (backends.Record, error) {
	if at <= 0 || r.Value == nil {
		return r, fmt.Errorf("%w: the record %q has revision %d and %d bytes", backends.ErrCorrupt, r.Key, at, len(r.Value))
	}
	r.Revision = backends.Revision(at)
	return r, nil
}

// state returns the head, and the revision up to which the changes are gone.
func (b *Backend) state(ctx context.Context) (h backends.Head, floor backends.Revision, err error) {
	var s storedHead
	err = b.read(ctx, func(ctx context.Context, c *pgx.Conn) error {
		return s.scan(c.QueryRow(ctx, b.sql.head))
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%s: %w: the head is missing: restore the database from a backup", b.place, backends.ErrCorrupt)
	}
	return s.head, s.floor, err
}

// storedHead is the row of the table head.
type storedHead struct {
	head  backends.Head
	floor backends.Revision
}

func (s *storedHead) scan(row pgx.Row) error {
	var revision, seq, floor int64
	var hash []byte
	if err := row.Scan(&revision, &seq, &hash, &floor); err != nil {
		return err
	}
	if revision < 0 || seq < 0 || floor < 0 || floor > revision || len(hash) != len(s.head.Hash) {
		return fmt.Errorf("%w: the head is at revision %d, entry %d, with a hash of %d bytes", backends.ErrCorrupt, revision, seq, len(hash))
	}
	s.head = backends.Head{Revision: backends.Revision(revision), Seq: uint64(seq), Hash: backends.Hash(hash)}
	s.floor = backends.Revision(floor)
	return nil
}

func (b *Backend) Close() error {
	b.closing.Do(func() {
		b.calls.close()
		close(b.queue)
		<-b.committed
		b.stopBackground()
		b.mu.Lock()
		if b.feed != nil {
			b.feed.Close()
		}
		b.mu.Unlock()
		b.watches.Wait()
		b.pool.Close()
	})
	return nil
}

// read runs fn on a connection of the pool, again on another one when the
// connection turns out to be dead, and explains its error.
func (b *Backend) read(ctx context.Context, fn func(context.Context, *pgx.Conn) error) error {
	if err := b.calls.enter(ctx); err != nil {
		return err
	}
	defer b.calls.leave()
	bounded, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	var err error
	for range b.attempts {
		err = b.pool.AcquireFunc(bounded, func(c *pgxpool.Conn) error { return fn(bounded, c.Conn()) })
		if !connectionLost(err) {
			break
		}
	}
	switch {
	case err == nil, errors.Is(err, pgx.ErrNoRows):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return b.place.explain(err)
}

// each runs fn for every row of the query, scanned into to.
func each(ctx context.Context, c *pgx.Conn, sql string, args, to []any, fn func() error) error {
	rows, err := c.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, to, fn)
	return err
}

// calls counts the calls under way, for Close to wait for them.
type calls struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // closed when the last call has left after close
}

// enter admits a call; leave must follow it when it returns nil.
func (c *calls) enter(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return backends.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.n++
	return nil
}

func (c *calls) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.closed && c.n == 0 {
		close(c.idle)
	}
}

// close admits no more calls and waits for those under way.
func (c *calls) close() {
	c.mu.Lock()
	c.closed = true
	if c.n == 0 {
		close(c.idle)
	}
	c.mu.Unlock()
	<-c.idle
}

func validLimit(limit int) error {
	if limit < 1 || limit > backends.MaxPage {
		return fmt.Errorf("%w: a limit of %d (1 to %d)", backends.ErrInvalid, limit, backends.MaxPage)
	}
	return nil
}
