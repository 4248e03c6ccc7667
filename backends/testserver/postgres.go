package testserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// The roles of a server: its superuser, and one that owns databases and is nothing
// more.
const (
	PostgresAdmin = "postgres"
	PostgresOwner = "vault"
)

// PostgresConfig says what kind of PostgreSQL server to start.
type PostgresConfig struct {
	TLS      bool     // clients must come over TLS; see [PostgresServer.CA]
	NoSync   bool     // do not wait for the disk: faster, and safe while the machine lives
	Settings []string // further ones, NAME=VALUE
}

// PostgresServer is a PostgreSQL server of one's own, at a port of the loopback
// interface.
type PostgresServer struct {
	CA string // the file that clients of a server with TLS check it against

	cfg       PostgresConfig
	programs  string // directory of initdb and postgres
	as        *syscall.Credential
	dir       string
	port      int
	passwords map[string]string // by role
	databases atomic.Int64
	*process
}

// Postgres returns a server that all tests of the binary share. It must not be
// stopped; see [Run].
func Postgres(t testing.TB) *PostgresServer {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.postgres != nil {
		return shared.postgres
	}
	s, err := startPostgres(PostgresConfig{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	shared.postgres = s
	shared.stops = append(shared.stops, s.remove)
	return s
}

// StartPostgres starts a server that ends with the test.
func StartPostgres(t testing.TB, cfg PostgresConfig) *PostgresServer {
	t.Helper()
	s, err := startPostgres(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	return s
}

func startPostgres(cfg PostgresConfig) (*PostgresServer, error) {
	programs, err := postgresPrograms()
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{cfg: cfg, programs: programs, passwords: map[string]string{PostgresAdmin: rand.Text(), PostgresOwner: rand.Text()}}
	// A directory of a test's own could not be entered by the server's user.
	if s.dir, err = os.MkdirTemp("", "postgres-"); err != nil {
		return nil, err
	}
	if err = s.initialize(); err == nil {
		err = s.startSomewhere()
	}
	if err == nil {
		err = s.Exec("postgres", fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", PostgresOwner, s.passwords[PostgresOwner]))
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// initialize makes the data directory, as the user who will run the server:
// PostgreSQL does not run as root.
func (s *PostgresServer) initialize() error {
	passwordFile := s.file("password")
	if err := os.WriteFile(passwordFile, []byte(s.passwords[PostgresAdmin]), 0o600); err != nil {
		return err
	}
	if s.cfg.TLS {
		s.CA = s.file("ca.pem")
		ca, caKey, err := certify(nil, nil, "test CA", s.CA, s.file("ca.key"))
		if err == nil {
			_, _, err = certify(ca, caKey, "server", s.file("server.pem"), s.file("server.key"))
		}
		if err != nil {
			return err
		}
	}
	if err := s.giveAway(); err != nil {
		return err
	}
	p, err := startAs(s.as, filepath.Join(s.programs, "initdb"), "-D", s.file("data"), "-U", PostgresAdmin, "--auth=scram-sha-256",
		"--pwfile="+passwordFile, "--encoding=UTF8", "--no-locale", "--no-sync")
	if err != nil {
		return err
	}
	<-p.done
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("initdb: %v: %s", p.cmd.ProcessState, p.out)
	}
	return nil
}

func (s *PostgresServer) startSomewhere() (err error) {
	// Another process may take the port between the choice and the start.
	for range 5 {
		var ports []int
		if ports, err = freePorts(1); err != nil {
			return err
		}
		s.port = ports[0]
		if err = s.launch(); err == nil {
			return nil
		}
	}
	return err
}

// launch starts the server and waits until it answers.
func (s *PostgresServer) launch() error {
	settings := append([]string{
		"listen_addresses=127.0.0.1", fmt.Sprint("port=", s.port), "unix_socket_directories=" + s.dir,
		"shared_buffers=32MB", "max_connections=120", "log_min_messages=warning", "lc_messages=C",
	}, s.cfg.Settings...)
	if s.cfg.NoSync {
		settings = append(settings, "fsync=off", "full_page_writes=off")
	}
	if s.cfg.TLS {
		settings = append(settings, "ssl=on", "ssl_cert_file="+s.file("server.pem"), "ssl_key_file="+s.file("server.key"))
	}
	args := []string{"-D", s.file("data")}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	var err error
	if s.process, err = startAs(s.as, filepath.Join(s.programs, "postgres"), args...); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := s.Exec("postgres", "SELECT 1")
		switch {
		case err == nil:
			return nil
		case s.ended():
			return fmt.Errorf("postgres ended: %s", s.out)
		case time.Now().After(deadline):
			return fmt.Errorf("postgres does not answer within %v: %w: %s", patience, err, s.out)
		}
	}
}

// Exec runs SQL in a database as the superuser.
func (s *PostgresServer) Exec(database, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL(database, PostgresAdmin))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return errors.Join(err, c.Close(ctx))
}

// Admin is Exec for a test.
func (s *PostgresServer) Admin(t testing.TB, database, sql string) {
	t.Helper()
	if err := s.Exec(database, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// NewDatabase creates an empty database that ends with the test, and returns its
// name. It belongs to [PostgresOwner], and its collation is not that of the bytes.
func (s *PostgresServer) NewDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprint("test", s.databases.Add(1))
	sql := fmt.Sprintf("CREATE DATABASE %s OWNER %s TEMPLATE template0", name, PostgresOwner)
	// Version 14 has no such databases, and a server may be built without ICU.
	if s.Exec("postgres", sql+" LOCALE_PROVIDER icu ICU_LOCALE 'en-US'") != nil {
		s.Admin(t, "postgres", sql)
	}
	t.Cleanup(func() {
		if !s.ended() {
			s.Exec("postgres", "DROP DATABASE "+name+" WITH (FORCE)")
		}
	})
	return name
}

// URL returns the URL of a database for a role, with further parameters NAME=VALUE.
func (s *PostgresServer) URL(database, role string, parameters ...string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(role, s.passwords[role]), Host: s.Address(), Path: database}
	if s.cfg.TLS {
		parameters = append([]string{"sslmode=verify-full", "sslrootcert=" + s.CA}, parameters...)
	} else {
		parameters = append([]string{"sslmode=disable"}, parameters...)
	}
	u.RawQuery = strings.Join(parameters, "&")
	return u.String()
}

// Password returns the password of a role.
func (s *PostgresServer) Password(role string) string { return s.passwords[role] }

// Address returns the server's host:port.
func (s *PostgresServer) Address() string { return fmt.Sprint("127.0.0.1:", s.port) }

// Stop ends the server in order, and the connections to it.
func (s *PostgresServer) Stop() { s.stop(syscall.SIGINT) }

// Kill ends the server and all its processes at once.
func (s *PostgresServer) Kill() {
	children := s.children()
	s.stop(syscall.SIGKILL)
	for _, pid := range children {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Pause stops all the server's processes from running, with their connections open;
// Resume lets them go on.
func (s *PostgresServer) Pause() {
	for _, pid := range s.signalAll(syscall.SIGSTOP) {
		awaitStopped(pid)
	}
}

func (s *PostgresServer) Resume() { s.signalAll(syscall.SIGCONT) }

func (s *PostgresServer) signalAll(signal syscall.Signal) (pids []int) {
	pids = append(s.children(), s.cmd.Process.Pid)
	for _, pid := range pids {
		syscall.Kill(pid, signal)
	}
	return pids
}

// children returns the server's processes but the first.
func (s *PostgresServer) children() []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// pid (name) state ppid ...: proc(5)
		_, rest, _ := strings.Cut(string(text), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(s.cmd.Process.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// Start starts the server again after Stop or Kill, at the same port, and waits.
func (s *PostgresServer) Start(t testing.TB) {
	t.Helper()
	var err error
	// What a killed server leaves in shared memory goes a moment later.
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = s.launch(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// Restart stops the server in order and starts it again.
func (s *PostgresServer) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	s.Start(t)
}

// Demote makes the server a read-only replica, of a primary that says nothing.
func (s *PostgresServer) Demote(t testing.TB) {
	t.Helper()
	s.Stop()
	if err := os.WriteFile(s.file("data/standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.giveAway(); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
}

func (s *PostgresServer) remove() {
	if s.process != nil && !s.ended() {
		s.Kill()
	}
	os.RemoveAll(s.dir)
}

func (s *PostgresServer) file(name string) string { return filepath.Join(s.dir, name) }
