package linear

import (
	"context"
	"flag"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/etcd"
	"github.com/sidevault/sidevault/backends/postgres"
	"github.com/sidevault/sidevault/backends/testserver"
)

var torture = flag.Bool("torture", false, "perform three times as many operations")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testserver.Run(m))
}

// operations is how many there are in a run.
func operations() int {
	if *torture {
		return 2000
	}
	return 600
}

// TestServers has sidecars share real servers, which are killed and started again
// meanwhile.
func TestServers(t *testing.T) {
	for name, storage := range map[string]func(*testing.T) Storage{"postgres": onPostgres, "etcd": onEtcd} {
		for how, cached := range map[string]bool{"direct": false, "cached": true} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				s := storage(t)
				s.Disturb = nil
				Run(t, s, Options{Cached: cached, Operations: operations()})
			})
			t.Run(name+" "+how+", killed again and again", func(t *testing.T) {
				t.Parallel()
				// Enough to be disturbed.
				Run(t, storage(t), Options{Cached: cached, Operations: 2 * operations()})
			})
		}
	}
}

func onPostgres(t *testing.T) Storage {
	server := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true})
	url := server.URL(server.NewDatabase(t), testserver.PostgresOwner)
	return Storage{
		Open: func(ctx context.Context) (backends.Backend, error) { return postgres.Open(ctx, url, nil) },
		Disturb: func(ctx context.Context) {
			for pause(ctx, 100, 700) {
				server.Kill()
				time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
				server.Start(t)
			}
		},
	}
}

func onEtcd(t *testing.T) Storage {
	cluster := testserver.Etcd(t, 3)
	url := cluster.URL()
	return Storage{
		Open: func(ctx context.Context) (backends.Backend, error) { return etcd.Open(ctx, url, nil) },
		Disturb: func(ctx context.Context) {
			for pause(ctx, 300, 1000) {
				leader := cluster.Leader(t)
				cluster.Kill(leader)
				time.Sleep(time.Duration(rand.IntN(2000)) * time.Millisecond)
				cluster.Start(t, leader)
			}
		},
	}
}

// pause waits for so many milliseconds and up to as many more as spread, and reports
// whether the context goes on.
func pause(ctx context.Context, least, spread int) bool {
	select {
	case <-time.After(time.Duration(least+rand.IntN(spread)) * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}
