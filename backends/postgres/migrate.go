package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sidevault/sidevault/backends"
)

// A migration is the file NUMBER_NAME.sql. Those with numbers above the schema's
// version are applied in one transaction. One that was released is never changed.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationTimeout bounds a migration, and the wait for another process's.
const migrationTimeout = 10 * time.Minute

type migration struct {
	version int
	sql     string
}

// readMigrations returns the migrations, with the schema filled in.
func readMigrations(files fs.FS, schema string) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	fill := strings.NewReplacer("@schema@", pgx.Identifier{schema}.Sanitize(), "@channel@", "'"+channel(schema)+"'")
	var list []migration
	for _, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != len(list)+1 {
			return nil, fmt.Errorf("%s: want migration %d", name, len(list)+1)
		}
		sql, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		list = append(list, migration{version, fill.Replace(string(sql))})
	}
	return list, nil
}

// openSchema makes sure that the schema is of the version that this program knows
// and that its head is that of its log.
func (b *Backend) openSchema(ctx context.Context) error {
	list, err := readMigrations(migrationFiles, b.place.schema)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	err = b.pool.AcquireFunc(bounded, func(c *pgxpool.Conn) error {
		version, err := b.version(bounded, c.Conn())
		if err != nil {
			return err
		}
		if version < len(list) {
			migrating, cancel := context.WithTimeout(ctx, migrationTimeout)
			defer cancel()
			version, err = b.migrate(migrating, c.Conn(), list)
		}
		if err == nil && version > len(list) {
			err = refuse(nil, "the schema %s is of version %d, made by a newer Sidevault; this one knows %d: upgrade it", b.place.schema, version, len(list))
		}
		return err
	})
	if err != nil {
		return err
	}
	bounded, cancel = context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.checkHead(bounded)
}

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// version returns the schema's version, 0 when there is none yet.
func (b *Backend) version(ctx context.Context, c querier) (int, error) {
	schema := pgx.Identifier{b.place.schema}.Sanitize()
	var exists bool
	var others int
	err := c.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL,
		(SELECT count(*) FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace WHERE n.nspname = $2)`,
		schema+".migrations", b.place.schema).Scan(&exists, &others)
	switch {
	case err != nil:
		return 0, err
	case !exists && others > 0:
		return 0, refuse(nil, "the schema %s holds something that is not a vault: choose another one with schema= in the URL", b.place.schema)
	case !exists:
		return 0, nil
	}
	var version int
	err = c.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM `+schema+`.migrations`).Scan(&version)
	return version, err
}

// migrate applies what is missing. The advisory lock lets one process do it.
func (b *Backend) migrate(ctx context.Context, c *pgx.Conn, list []migration) (int, error) {
	schema := pgx.Identifier{b.place.schema}.Sanitize()
	version := 0
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0)),
			set_config('statement_timeout', '0', true), set_config('synchronous_commit', 'on', true)`, channel(b.place.schema))
		if err != nil {
			return err
		}
		if version, err = b.version(ctx, tx); err != nil || version >= len(list) {
			return err
		}
		if err := b.createSchema(ctx, tx); err != nil {
			return err
		}
		for _, m := range list[version:] {
			if _, err := tx.Exec(ctx, m.sql, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO `+schema+`.migrations (version) VALUES ($1)`, m.version); err != nil {
				return err
			}
			version = m.version
		}
		return nil
	})
	return version, err
}

// createSchema creates the schema and the table of its versions unless they exist.
func (b *Backend) createSchema(ctx context.Context, tx pgx.Tx) error {
	schema := pgx.Identifier{b.place.schema}.Sanitize()
	var exists bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)`, b.place.schema).Scan(&exists); err != nil {
		return err
	}
	if !exists {
		_, err := tx.Exec(ctx, `CREATE SCHEMA `+schema)
		if pg := serverError(err); pg != nil && pg.Code == codeNoPrivilege {
			return refuse(nil, "the user %q may not create the schema %s: let an administrator run, in this database: CREATE SCHEMA %s AUTHORIZATION %s",
				b.place.user, b.place.schema, schema, pgx.Identifier{b.place.user}.Sanitize())
		} else if err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `CREATE TABLE IF NOT EXISTS `+schema+`.migrations (version int PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())`)
	return err
}

// checkHead holds the head to the last log entry.
func (b *Backend) checkHead(ctx context.Context) error {
	schema := pgx.Identifier{b.place.schema}.Sanitize()
	var sound bool
	err := b.pool.QueryRow(ctx, `SELECT count(*) = 1 AND bool_and(h.seq = coalesce(l.seq, 0) AND h.hash = coalesce(l.hash, decode(repeat('00', 32), 'hex')))
		FROM `+schema+`.head h LEFT JOIN (SELECT seq, hash FROM `+schema+`.log ORDER BY seq DESC LIMIT 1) l ON true`).Scan(&sound)
	if err == nil && !sound {
		return fmt.Errorf("%w: the head of the schema %s is not that of its log: restore the database from a backup", backends.ErrCorrupt, b.place.schema)
	}
	return err
}
