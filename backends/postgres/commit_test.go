package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// holdHead takes the lock that every commit needs, until the returned function is
// called.
func holdHead(t *testing.T, at string) (release func()) {
	t.Helper()
	c, err := pgx.Connect(context.Background(), at)
	if err == nil {
		_, err = c.Exec(t.Context(), "BEGIN; SELECT FROM sidevault.head FOR UPDATE")
	}
	if err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { c.Close(context.Background()) })
	t.Cleanup(release)
	return release
}

// committing waits until n sessions wait for the lock.
func committing(t *testing.T, s *testserver.PostgresServer, database string, n int) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.URL(database, testserver.PostgresAdmin))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.Background())
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var found int
		err := c.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&found)
		if err != nil {
			t.Fatal(err)
		}
		if found == n {
			return
		}
	}
	t.Fatalf("no %d commits wait for the lock", n)
}

// TestCancelSent ends the context of a commit that the server has and cannot answer:
// the caller learns at once that the outcome is unknown, and the commit goes through.
func TestCancelSent(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	at := s.URL(database, testserver.PostgresOwner)
	b := open(t, at, nil)
	release := holdHead(t, at)
	ctx, cancel := context.WithCancel(t.Context())
	sent := make(chan error)
	go func() { _, err := b.Commit(ctx, put("sent", 0, "x")); sent <- err }()
	committing(t, s, database, 1)

	queued, cancelQueued := context.WithCancel(t.Context())
	behind := make(chan error)
	go func() { _, err := b.Commit(queued, put("queued", 0, "x")); behind <- err }()
	time.Sleep(20 * time.Millisecond)
	cancelQueued()
	if err := <-behind; !errors.Is(err, context.Canceled) || errors.Is(err, backends.ErrUnknownOutcome) {
		t.Errorf("a commit that was not sent: %v", err)
	}
	cancel()
	start := time.Now()
	err := <-sent
	if !errors.Is(err, backends.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("a commit that was sent: %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v to give up", took)
	}
	release()
	if _, err := b.Commit(t.Context(), put("next", 0, "x")); err != nil {
		t.Fatal(err)
	}
	if r, err := b.Get(t.Context(), "sent"); err != nil || r.Revision != 1 {
		t.Errorf("the commit that was sent: %+v, %v", r, err)
	}
	if _, err := b.Get(t.Context(), "queued"); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("the commit that was given up: %v", err)
	}
}

// TestCommitBlocked holds the lock for longer than a call may take: the server gives
// up first, so that the outcome is known.
func TestCommitBlocked(t *testing.T) {
	at := newDatabase(t)
	b := open(t, at, &Options{CallTimeout: time.Second})
	release := holdHead(t, at)
	_, err := b.Commit(t.Context(), put("a", 0, "x"))
	if !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, backends.ErrUnavailable)
	}
	checkLine(t, err, "the server took too long")
	release()
	if _, err := b.Commit(t.Context(), put("a", 0, "x")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestCommitConnectionLost ends the server's side of a commit under way.
func TestCommitConnectionLost(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	at := s.URL(database, testserver.PostgresOwner)
	b := open(t, at, nil)
	release := holdHead(t, at)
	sent := make(chan error)
	go func() { _, err := b.Commit(t.Context(), put("a", 0, "x")); sent <- err }()
	committing(t, s, database, 1)
	s.Admin(t, database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	err := <-sent
	if !errors.Is(err, backends.ErrUnknownOutcome) {
		t.Errorf("got %v, want %v", err, backends.ErrUnknownOutcome)
	}
	checkLine(t, err, "the outcome of the commit is unknown", s.Password(testserver.PostgresOwner))
	release()
	if _, err := b.Commit(t.Context(), put("a", 0, "x")); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestIdleConnectionsLost ends all idle connections: no call notices.
func TestIdleConnectionsLost(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	b := open(t, s.URL(database, testserver.PostgresOwner), nil)
	for round := range 4 {
		for i := range 4 {
			if _, err := b.Commit(t.Context(), put(fmt.Sprint(round, "/", i), 0, "x")); err != nil {
				t.Errorf("Commit: %v", err)
			}
			if i == 1 {
				s.Admin(t, "postgres", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '"+database+"'")
			}
		}
		s.Admin(t, "postgres", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '"+database+"'")
		if _, err := b.Get(t.Context(), fmt.Sprint(round, "/3")); err != nil {
			t.Errorf("Get: %v", err)
		}
	}
}

// TestServerHangs stops the server's processes: calls end with their contexts, or
// else after the call's timeout, and everything works again afterwards.
func TestServerHangs(t *testing.T) {
	s := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true})
	b := open(t, s.URL(s.NewDatabase(t), testserver.PostgresOwner), &Options{CallTimeout: 2 * time.Second})
	if _, err := b.Commit(t.Context(), put("a", 0, "x")); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	start := time.Now()
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := b.Get(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get with a deadline: %v", err)
	}
	if took := time.Since(start); took > 1500*time.Millisecond {
		t.Errorf("Get took %v beyond a deadline of 0.1 s", took)
	}
	_, err := b.Get(t.Context(), "a")
	if !errors.Is(err, backends.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get: %v", err)
	}
	checkLine(t, err, "did not answer in time")
	if _, err := b.Commit(t.Context(), put("b", 0, "x")); !errors.Is(err, backends.ErrUnknownOutcome) && !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("Commit: %v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("three calls took %v", took)
	}
	s.Resume()
	if _, err := b.Get(t.Context(), "a"); err != nil {
		t.Errorf("Get afterwards: %v", err)
	}
	if _, err := b.Commit(t.Context(), put("c", 0, "x")); err != nil {
		t.Errorf("Commit afterwards: %v", err)
	}
}

// TestGrouped lets many commits wait behind one: they share the next transaction,
// and the ones in it that conflict are refused alone.
func TestGrouped(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	at := s.URL(database, testserver.PostgresOwner)
	b := open(t, at, nil)
	release := holdHead(t, at)
	var callers sync.WaitGroup
	callers.Go(func() { b.Commit(t.Context(), put("first", 0, "x")) })
	committing(t, s, database, 1)
	errs := make([]error, 40)
	for i := range errs {
		callers.Go(func() {
			_, errs[i] = b.Commit(t.Context(), backends.Batch{
				Changes: []backends.Change{backends.Put(fmt.Sprint(i/2), 0, fmt.Append(nil, i)), backends.Put(fmt.Sprint("own/", i), 0, nil)},
				Entries: [][]byte{fmt.Append(nil, i)},
			})
		})
	}
	for deadline := time.Now().Add(20 * time.Second); len(b.queue) < len(errs); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d commits are queued", len(b.queue), len(errs))
		}
	}
	release()
	callers.Wait()
	for i := 0; i < len(errs); i += 2 {
		if won := errs[i] == nil; won == (errs[i+1] == nil) || !won && !errors.Is(errs[i], backends.ErrConflict) || won && !errors.Is(errs[i+1], backends.ErrConflict) {
			t.Errorf("of two commits of one key: %v, %v", errs[i], errs[i+1])
		}
	}
	left, err := b.List(t.Context(), "own/", "", 100)
	if err != nil || len(left) != len(errs)/2 {
		t.Errorf("%d records are left, %v; want %d", len(left), err, len(errs)/2)
	}
	var transactions int
	if err := b.pool.QueryRow(t.Context(), "SELECT count(DISTINCT xmin::text) FROM sidevault.records WHERE key LIKE 'own/%'").Scan(&transactions); err != nil || transactions > 3 {
		t.Errorf("%d commits took %d transactions, %v", len(errs)/2, transactions, err)
	}
}

// TestDurable commits on a server that by default does not wait for its disk.
func TestDurable(t *testing.T) {
	s := testserver.Postgres(t)
	for _, setting := range [][2]string{{"off", "on"}, {"local", "on"}, {"remote_write", "on"}, {"on", "on"}, {"remote_apply", "remote_apply"}} {
		database := s.NewDatabase(t)
		s.Admin(t, "postgres", "ALTER DATABASE "+database+" SET synchronous_commit = "+setting[0])
		b := open(t, s.URL(database, testserver.PostgresOwner), nil)
		c, err := b.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got string
		err = pgx.BeginFunc(t.Context(), c, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), b.sql.commit, b.arguments([]*request{{batch: put("a", 0, "x")}})...); err != nil {
				return err
			}
			return tx.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&got)
		})
		c.Release()
		if err != nil || got != setting[1] {
			t.Errorf("with the default %s the commit is made with %s, %v; want %s", setting[0], got, err, setting[1])
		}
	}
}

// TestServerDefaults opens a vault in a database whose settings are against it.
func TestServerDefaults(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	for _, setting := range []string{
		"default_transaction_isolation = 'serializable'", "statement_timeout = '100ms'", "bytea_output = 'escape'", "standard_conforming_strings = off",
		"search_path = public, pg_catalog", "client_encoding = 'LATIN1'", "default_transaction_deferrable = on", "enable_indexscan = off",
	} {
		s.Admin(t, "postgres", "ALTER DATABASE "+database+" SET "+setting)
	}
	s.Admin(t, database, "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$")
	at := s.URL(database, testserver.PostgresOwner)
	one, two := open(t, at, nil), open(t, at, nil)
	var writers sync.WaitGroup
	for i := range 20 {
		b := []*Backend{one, two}[i%2]
		writers.Go(func() {
			for n := range 10 {
				_, err := b.Commit(t.Context(), backends.Batch{
					Changes: []backends.Change{backends.Put(fmt.Sprint("ключ/", 10*i+n), 0, []byte("\x00\\x\xff"))}, Entries: [][]byte{{0, 0xff, '\\'}},
				})
				if err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	writers.Wait()
	if entries := checkChain(t, one); entries != 200 {
		t.Errorf("%d log entries, want 200", entries)
	}
	var cyrillic int
	err := one.pool.QueryRow(t.Context(), "SELECT max(octet_length(key) - length(key)) FROM sidevault.records").Scan(&cyrillic)
	if err != nil || cyrillic != len("ключ")/2 {
		t.Errorf("the server took the keys for %d letters of two bytes, %v", cyrillic, err)
	}
	if r, err := one.Get(t.Context(), "ключ/7"); err != nil || string(r.Value) != "\x00\\x\xff" {
		t.Errorf("Get: %q, %v", r.Value, err)
	}
}
