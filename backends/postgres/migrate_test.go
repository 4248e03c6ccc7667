package postgres

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

// TestOpenTogether lets many make the schema at once.
func TestOpenTogether(t *testing.T) {
	at := newDatabase(t)
	var opening sync.WaitGroup
	for range 8 {
		opening.Go(func() {
			b, err := Open(t.Context(), at, nil)
			if err != nil {
				t.Error(err)
				return
			}
			b.Close()
		})
	}
	opening.Wait()
	b := open(t, at, nil)
	var versions []int
	if err := b.pool.QueryRow(t.Context(), "SELECT array_agg(version ORDER BY version) FROM sidevault.migrations").Scan(&versions); err != nil || len(versions) != 1 {
		t.Errorf("migrations %v were recorded, %v; want one", versions, err)
	}
}

func TestNewerSchema(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	at := s.URL(database, testserver.PostgresOwner)
	open(t, at, nil)
	s.Admin(t, database, "INSERT INTO sidevault.migrations (version) VALUES (7)")
	refused(t, at, "the schema sidevault is of version 7, made by a newer Sidevault; this one knows 1: upgrade it", s.Password(testserver.PostgresOwner))
}

func TestForeignSchema(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	s.Admin(t, database, "CREATE SCHEMA sidevault AUTHORIZATION vault; CREATE TABLE sidevault.accounts ()")
	refused(t, s.URL(database, testserver.PostgresOwner), "holds something that is not a vault: choose another one with schema=")
	s.Admin(t, database, "DROP TABLE sidevault.accounts")
	open(t, s.URL(database, testserver.PostgresOwner), nil)
}

// TestSchemas keeps two vaults in one database: they share nothing, not even their
// notifications.
func TestSchemas(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	one := open(t, s.URL(database, testserver.PostgresOwner, "schema=one"), nil)
	two := open(t, s.URL(database, testserver.PostgresOwner, "schema=_two_2"), nil)
	if _, err := one.Commit(t.Context(), put("a", 0, "one")); err != nil {
		t.Fatal(err)
	}
	if h, err := two.Head(t.Context()); err != nil || h.Revision != 0 {
		t.Errorf("the other schema's head: %+v, %v", h, err)
	}
	if _, err := two.Get(t.Context(), "a"); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("Get from the other schema: %v", err)
	}
}

// TestMigrationFails leaves nothing of a migration that fails in its midst.
func TestMigrationFails(t *testing.T) {
	at := newDatabase(t)
	b := open(t, at, nil)
	err := b.migrateWith(t, []migration{{1, ""}, {2, "CREATE TABLE sidevault.half (); SELECT 1/0"}})
	if err == nil {
		t.Fatal("it did not fail")
	}
	var half bool
	if err := b.pool.QueryRow(t.Context(), "SELECT to_regclass('sidevault.half') IS NOT NULL").Scan(&half); err != nil || half {
		t.Errorf("half of the migration is there: %t, %v", half, err)
	}
	open(t, at, nil)
	if err := b.migrateWith(t, []migration{{1, ""}, {2, "CREATE TABLE sidevault.half ()"}}); err != nil {
		t.Error(err)
	}
	refused(t, at, "of version 2, made by a newer Sidevault")
}

func (b *Backend) migrateWith(t *testing.T, list []migration) error {
	c, err := b.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	_, err = b.migrate(t.Context(), c.Conn(), list)
	return err
}

func TestMigrationNumbers(t *testing.T) {
	for _, names := range [][]string{{"0002_b.sql"}, {"0001_a.sql", "0003_c.sql"}, {"0001_a.sql", "0001_b.sql"}, {"first.sql"}} {
		files := fstest.MapFS{}
		for _, name := range names {
			files["migrations/"+name] = &fstest.MapFile{}
		}
		if list, err := readMigrations(files, "x"); err == nil {
			t.Errorf("%q were read as %v", names, list)
		}
	}
}

// TestLeastPrivilege opens a vault as a role that may use its tables and owns
// nothing.
func TestLeastPrivilege(t *testing.T) {
	s := testserver.Postgres(t)
	database := s.NewDatabase(t)
	open(t, s.URL(database, testserver.PostgresAdmin), nil)
	refused(t, s.URL(database, testserver.PostgresOwner), `lacks a privilege`)
	s.Admin(t, database, fmt.Sprintf(grants, "vault"))
	b := open(t, s.URL(database, testserver.PostgresOwner), nil)
	at, err := b.Commit(t.Context(), backends.Batch{Changes: []backends.Change{backends.Put("a", 0, nil)}, Entries: [][]byte{[]byte("e")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(t.Context(), backends.Batch{Changes: []backends.Change{backends.Delete("a", at)}}); err != nil {
		t.Error(err)
	}
}

// grants are those that the documentation gives.
const grants = `GRANT USAGE ON SCHEMA sidevault TO %[1]s;
GRANT SELECT ON sidevault.migrations TO %[1]s;
GRANT SELECT, INSERT ON sidevault.log TO %[1]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON sidevault.records TO %[1]s;
GRANT SELECT, INSERT, DELETE ON sidevault.changes TO %[1]s;
GRANT SELECT, UPDATE ON sidevault.head TO %[1]s;`
