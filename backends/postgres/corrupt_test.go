package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// TestHostileTables changes the tables as someone who owns the database can. Every
// call must come back, with an error where the content cannot be right.
func TestHostileTables(t *testing.T) {
	get := func(ctx context.Context, b *Backend) error { _, err := b.Get(ctx, "a"); return err }
	list := func(ctx context.Context, b *Backend) error { _, err := b.List(ctx, "", "", 10); return err }
	log := func(ctx context.Context, b *Backend) error { _, err := b.Log(ctx, 0, 10); return err }
	head := func(ctx context.Context, b *Backend) error { _, err := b.Head(ctx); return err }
	watch := func(ctx context.Context, b *Backend) error { _, err := b.Watch(ctx, 1); return err }
	commit := func(ctx context.Context, b *Backend) error {
		_, err := b.Commit(ctx, backends.Batch{Changes: []backends.Change{backends.Put("b", 0, nil)}, Entries: [][]byte{[]byte("e")}})
		return err
	}
	reopen := func(ctx context.Context, b *Backend) error {
		again, err := Open(ctx, b.pool.Config().ConnString(), nil)
		if err == nil {
			again.Close()
		}
		return err
	}
	const noChecks = `DO $$ DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass AS t, conname FROM pg_constraint
		WHERE contype = 'c' AND connamespace = 'sidevault'::regnamespace LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.t, c.conname); END LOOP; END $$;`
	for name, c := range map[string]struct {
		sql   string
		calls []func(context.Context, *Backend) error
	}{
		"negative revision":  {noChecks + "UPDATE sidevault.records SET revision = -5", meet(get, list)},
		"zero revision":      {noChecks + "UPDATE sidevault.records SET revision = 0", meet(get, list)},
		"null revision":      {noChecks + "ALTER TABLE sidevault.records ALTER revision DROP NOT NULL; UPDATE sidevault.records SET revision = NULL", meet(get, list)},
		"null value":         {"ALTER TABLE sidevault.records ALTER value DROP NOT NULL; UPDATE sidevault.records SET value = NULL", meet(get, list)},
		"null body":          {"ALTER TABLE sidevault.log ALTER body DROP NOT NULL; UPDATE sidevault.log SET body = NULL", meet(log)},
		"revision of text":   {noChecks + "ALTER TABLE sidevault.records ALTER revision TYPE text USING 'x'", meet(get, list, commit)},
		"value of text":      {"ALTER TABLE sidevault.records ALTER value TYPE int USING 7", meet(commit)},
		"no records":         {"DROP TABLE sidevault.records", meet(get, list, commit)},
		"short hash":         {noChecks + `UPDATE sidevault.log SET hash = '\x00'`, meet(log, reopen)},
		"null hash":          {noChecks + `ALTER TABLE sidevault.log ALTER hash DROP NOT NULL; UPDATE sidevault.log SET hash = NULL`, meet(log)},
		"random hash":        {`UPDATE sidevault.log SET hash = sha256('x')`, meet(reopen)},
		"log cut off":        {`DELETE FROM sidevault.log`, meet(reopen)},
		"log taken":          {`INSERT INTO sidevault.log SELECT 2, prev, hash, body FROM sidevault.log`, meet(commit, reopen)},
		"no log":             {`DROP TABLE sidevault.log`, meet(log, commit, reopen)},
		"no head":            {`DELETE FROM sidevault.head`, meet(head, watch, commit, reopen)},
		"two heads":          {noChecks + `ALTER TABLE sidevault.head DROP CONSTRAINT head_pkey; INSERT INTO sidevault.head SELECT NOT single, revision, seq, hash, floor FROM sidevault.head`, meet(commit, reopen)},
		"head without table": {`DROP TABLE sidevault.head CASCADE`, meet(head, watch, commit, reopen)},
		"negative head":      {noChecks + `UPDATE sidevault.head SET revision = -1`, meet(head, watch)},
		"short head hash":    {noChecks + `UPDATE sidevault.head SET hash = '\x0102'`, meet(head, watch, reopen)},
		"head behind":        {`UPDATE sidevault.head SET seq = 0, hash = decode(repeat('00', 32), 'hex')`, meet(commit, reopen)},
		"no function":        {`DROP FUNCTION sidevault.commit_batches`, meet(commit)},
		"no schema":          {`DROP SCHEMA sidevault CASCADE`, meet(get, list, log, head, watch, commit)},
	} {
		t.Run(name, func(t *testing.T) {
			s := testserver.Postgres(t)
			database := s.NewDatabase(t)
			b := open(t, s.URL(database, testserver.PostgresOwner), nil)
			if _, err := b.Commit(t.Context(), backends.Batch{Changes: []backends.Change{backends.Put("a", 0, []byte("v"))}, Entries: [][]byte{[]byte("1")}}); err != nil {
				t.Fatal(err)
			}
			s.Admin(t, database, c.sql)
			for i, call := range c.calls {
				if err := call(t.Context(), b); !errors.Is(err, backends.ErrCorrupt) {
					t.Errorf("call %d: got %v, want %v", i, err, backends.ErrCorrupt)
				} else {
					checkLine(t, err, "", s.Password(testserver.PostgresOwner))
				}
			}
		})
	}
}

func meet(list ...func(context.Context, *Backend) error) []func(context.Context, *Backend) error {
	return list
}

// TestHostileChanges lets a watcher meet changes that were tampered with: it gets
// what is well formed or loses its channel, and Close does not hang.
func TestHostileChanges(t *testing.T) {
	for name, sql := range map[string]string{
		"null keys": `ALTER TABLE sidevault.changes ALTER keys DROP NOT NULL; UPDATE sidevault.changes SET keys = NULL`,
		"null key":  `UPDATE sidevault.changes SET keys = ARRAY[NULL]`,
		"no table":  `DROP TABLE sidevault.changes`,
		"numbers":   `ALTER TABLE sidevault.changes ALTER keys TYPE int[] USING ARRAY[1]`,
	} {
		t.Run(name, func(t *testing.T) {
			s := testserver.Postgres(t)
			database := s.NewDatabase(t)
			at := s.URL(database, testserver.PostgresOwner)
			if _, err := open(t, at, nil).Commit(t.Context(), put("a", 0, "v")); err != nil {
				t.Fatal(err)
			}
			s.Admin(t, database, sql)
			b := open(t, at, nil)
			events, err := b.Watch(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for e := range events {
				if e.Revision != 1 {
					t.Errorf("got %v", e)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
