package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/sidevault/sidevault/backends/testserver"
)

// stage lets the servers of tests run for the bench: it ends what is put on it. Of a
// test it has what starting a server needs.
type stage struct {
	testing.TB // nil: whatever else is called of it is a mistake
	ctx        context.Context
	dir        string
	ends       []func()
}

// collapse is why a stage could not be set.
type collapse struct{ why string }

func (s *stage) Helper()                         {}
func (s *stage) Context() context.Context        { return s.ctx }
func (s *stage) Cleanup(end func())              { s.ends = append(s.ends, end) }
func (s *stage) Fatal(args ...any)               { panic(collapse{fmt.Sprint(args...)}) }
func (s *stage) Fatalf(text string, args ...any) { panic(collapse{fmt.Sprintf(text, args...)}) }

func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp(s.dir, "server-")
	if err != nil {
		s.Fatal(err)
	}
	return dir
}

func (s *stage) close() {
	for _, end := range slices.Backward(s.ends) {
		end()
	}
}

// startServer starts a server of a shared storage and returns the URL of an empty one.
// It does not wait for the disk: what is measured are reads.
func (s *stage) startServer(scheme string) (url string, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, ours := p.(collapse)
			if !ours {
				panic(p)
			}
			err = errors.New(c.why)
		}
	}()
	switch scheme {
	case "postgres":
		server := testserver.StartPostgres(s, testserver.PostgresConfig{NoSync: true})
		return server.URL(server.NewDatabase(s), testserver.PostgresOwner), nil
	case "etcd":
		return testserver.StartEtcd(s, testserver.EtcdConfig{Nodes: 1}).URL(), nil
	}
	return "", fmt.Errorf("there is no server for %s", scheme)
}
