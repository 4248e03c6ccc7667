package sidecar

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/sidevault/sidevault/backends/testserver"
)

// Storage makes an empty store for one vault and returns its URL. Files that the URL
// names go into dir.
type Storage func(t testing.TB, dir string) string

// Postgres is a database on the server that all tests share.
func Postgres(t testing.TB, dir string) string { return PostgresOn(testserver.Postgres(t))(t, dir) }

// Etcd is a prefix on the cluster of one node that all tests share.
func Etcd(t testing.TB, dir string) string { return EtcdOn(testserver.SharedEtcd(t))(t, dir) }

// PostgresOn is a database on a server of one's own. The password is in a file, for
// the URL to be a command's argument.
func PostgresOn(server *testserver.PostgresServer) Storage {
	return func(t testing.TB, dir string) string {
		t.Helper()
		u, err := url.Parse(server.URL(server.NewDatabase(t), testserver.PostgresOwner))
		if err != nil {
			t.Fatal("the server's URL is none")
		}
		password, _ := u.User.Password()
		file := filepath.Join(dir, "pgpass")
		if err := os.WriteFile(file, fmt.Appendf(nil, "*:*:*:*:%s\n", password), 0o600); err != nil {
			t.Fatal(err)
		}
		u.User = url.User(u.User.Username())
		q := u.Query()
		q.Set("passfile", file)
		u.RawQuery = q.Encode()
		return u.String()
	}
}

// EtcdOn is a prefix on a cluster of one's own.
func EtcdOn(cluster *testserver.Cluster) Storage {
	return func(testing.TB, string) string { return cluster.URL() }
}

// On returns the program with its vaults in that storage: without one they are in
// bbolt files in their data directories.
func (b *Binary) On(s Storage) *Binary {
	other := *b
	other.storage = s
	return &other
}
