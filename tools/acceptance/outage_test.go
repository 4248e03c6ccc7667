package acceptance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/backends/testserver"
	"github.com/sidevault/sidevault/tools/acceptance/linear"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// stale is the header of an answer that may be out of date.
const stale = "Sidevault-Stale"

// server is a storage server of a test's own, for it to harm.
type server struct {
	storage     sidecar.Storage
	kill, start func()
}

// onOwn runs a test over each engine, on a server of its own.
func onOwn(t *testing.T, test func(*testing.T, server)) {
	t.Helper()
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		s := testserver.StartPostgres(t, testserver.PostgresConfig{NoSync: true})
		test(t, server{sidecar.PostgresOn(s), s.Kill, func() { s.Start(t) }})
	})
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		c := testserver.Etcd(t, 1)
		test(t, server{sidecar.EtcdOn(c), func() { c.Kill(0) }, func() { c.Start(t, 0) }})
	})
}

// restarts kills the server and starts it again until the context ends, and returns
// how often it did.
func (s server) restarts(ctx context.Context) (times int) {
	for {
		select {
		case <-time.After(time.Duration(200+rand.IntN(1000)) * time.Millisecond):
		case <-ctx.Done():
			return times
		}
		s.kill()
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		s.start()
		times++
	}
}

// quick is how soon a request is refused while storage is away.
const quick = 3 * time.Second

// refusesWrites fails the test unless changes are refused at once, and say when to
// come again.
func refusesWrites(t *testing.T, c *sidecar.Client) {
	t.Helper()
	for _, send := range []func() *sidecar.Answer{
		func() *sidecar.Answer { return c.Put(slot("slack", "staging"), value("never")) },
		func() *sidecar.Answer { return c.Delete(slot("salesforce", "staging")) },
		func() *sidecar.Answer { return c.Post("/v1/credentials", newCredential("never")) },
	} {
		began := time.Now()
		answer := send()
		took := time.Since(began)
		answer.Fails(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE")
		if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err != nil || seconds < 1 || took > quick {
			t.Errorf("refused after %v, with Retry-After %q", took, answer.Header.Get("Retry-After"))
		}
	}
}

// TestStorageAway takes the whole storage away: what was read before is read on, and
// says that it is stale, for as long as is configured; the rest is refused at once.
// When storage is back the sidecar recovers by itself.
func TestStorageAway(t *testing.T) { onOwn(t, testStorageAway) }

func testStorageAway(t *testing.T, s server) {
	const limit = 6 * time.Second
	c := binary.On(s.storage).Init(t).Start(t, "--max-stale", limit.String()).Admin()
	c.Put(slot("salesforce", "staging"), value("kept")).Wants(http.StatusCreated)
	c.Put(slot("sftp", "staging"), map[string]any{"value": "never read"}).Wants(http.StatusCreated)
	fresh := c.Get(resolve("salesforce", "staging")).Wants(http.StatusOK)
	if fresh.Header.Get(stale) != "" {
		t.Error("an answer is stale while storage is there")
	}
	s.kill()
	gone := time.Now()
	refusesWrites(t, c)
	marked := 0
	for time.Since(gone) < limit/2 {
		answer := c.Get(resolve("salesforce", "staging")).Wants(http.StatusOK)
		if seconds, err := strconv.Atoi(answer.Header.Get(stale)); err == nil && seconds >= 1 && seconds <= int(limit.Seconds())+1 {
			marked++
		}
		wantsSecret(t, c, resolve("salesforce", "staging"), "kept", "staging")
		time.Sleep(50 * time.Millisecond)
	}
	if marked == 0 {
		t.Error("no answer says that it is stale")
	}
	c.Get("/healthz").Wants(http.StatusOK)
	if ready := c.Get("/readyz").Wants(http.StatusOK); !strings.Contains(string(ready.Body), "degraded") {
		t.Errorf("readyz says %s", ready.Body)
	}
	c.Get(resolve("sftp", "staging")).Fails(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE")
	until(t, "the end of stale reads", func() bool {
		answer, err := c.Try(http.MethodGet, resolve("salesforce", "staging"), nil)
		return err == nil && answer.Status == http.StatusServiceUnavailable
	})
	if after := time.Since(gone); after < limit/2 || after > 2*limit {
		t.Errorf("stale reads ended after %v, with max-stale %v", after, limit)
	}
	wantsParts(t, c.Get("/readyz").Wants(http.StatusServiceUnavailable), gone, map[string]string{
		"vault": "unavailable", "storage": "unavailable", "plugins": "ok", "keys": "ok",
	})
	s.start()
	back := until(t, "the recovery", func() bool {
		answer, err := c.Try(http.MethodPut, slot("salesforce", "staging"), value("new"))
		return err == nil && answer.Status == http.StatusOK
	})
	t.Logf("a change succeeds %v after storage is back", back)
	if answer := c.Get(resolve("salesforce", "staging")).Wants(http.StatusOK); answer.Header.Get(stale) != "" {
		t.Error("an answer is stale after the recovery")
	}
	wantsSecret(t, c, resolve("salesforce", "staging"), "new", "staging")
	wantsSecret(t, c, resolve("sftp", "staging"), "never read", "staging")
	c.Get(slot("slack", "staging")).Wants(http.StatusOK)
	c.Get("/readyz").Wants(http.StatusOK)
}

// wantsParts fails the test unless readyz says this of its parts, and of those with a
// fault that they have it since about then.
func wantsParts(t *testing.T, answer *sidecar.Answer, since time.Time, want map[string]string) {
	t.Helper()
	var health wire.Health
	answer.Into(&health)
	seen := 0
	for _, part := range health.Checks {
		status, named := want[part.Name]
		if !named {
			continue
		}
		seen++
		off := time.Time(part.Since).Sub(since)
		if part.Status != status || (status == "ok") != (part.Reason == "") || status != "ok" && (off < -3*time.Second || off > time.Minute) {
			t.Errorf("readyz says of %s: %+v, %v after the fault", part.Name, part, off)
		}
	}
	if seen != len(want) {
		t.Errorf("readyz does not name all of its parts: %+v", health)
	}
}

// TestStopWhileStorageAway ends a sidecar that has counted reads and cannot write them:
// it says how many, and why.
func TestStopWhileStorageAway(t *testing.T) { onOwn(t, testStopWhileStorageAway) }

func testStopWhileStorageAway(t *testing.T, s server) {
	served := binary.On(s.storage).Init(t).Start(t, "--shutdown-timeout", "3s")
	c := served.Admin()
	c.Put(slot("salesforce", "staging"), value("kept")).Wants(http.StatusCreated)
	wantsSecret(t, c, resolve("salesforce", "staging"), "kept", "staging")
	s.kill()
	for range 3 {
		wantsSecret(t, c, resolve("salesforce", "staging"), "kept", "staging")
	}
	served.Signal(syscall.SIGTERM)
	if !served.Ended(10 * time.Second) {
		t.Fatal("the sidecar does not end")
	}
	said := served.Log()[strings.LastIndex(served.Log(), "shutting down"):]
	if !strings.Contains(said, "reads could not be recorded in the audit log: ") || strings.Contains(said, "Internal error") {
		t.Errorf("the sidecar does not say what was lost and why:\n%s", said)
	}
}

// TestServerKilledLosesNothing kills the server with SIGKILL while a sidecar writes
// to it, and starts it again.
func TestServerKilledLosesNothing(t *testing.T) { onOwn(t, testServerKilledLosesNothing) }

func testServerKilledLosesNothing(t *testing.T, s server) {
	v := binary.On(s.storage).Init(t)
	h, random := newHistory(t), seeded(t)
	h.outages = true
	served := v.Start(t, "--keep-versions", "24")
	for round := range torturous(3, 10) {
		load(served, h, random, fmt.Sprintf("r%d", round), func(*sidecar.Sidecar) {
			s.kill()
			time.Sleep(time.Duration(500+random.IntN(2500)) * time.Millisecond)
			s.start()
			time.Sleep(300 * time.Millisecond)
		})
		awaitRecovery(t, served)
		h.check(served.Admin())
	}
	h.wantsEfforts()
}

// awaitRecovery waits until the sidecar reads and writes.
func awaitRecovery(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	c := s.Admin()
	until(t, "the recovery", func() bool {
		answer, err := c.Try(http.MethodGet, "/readyz", nil)
		return err == nil && answer.Status == http.StatusOK
	})
	until(t, "the recovery of the audit", func() bool {
		answer, err := c.Try(http.MethodGet, "/v1/audit?limit=1", nil)
		return err == nil && answer.Status == http.StatusOK
	})
}

// election bounds how long changes may fail when one node of three is away.
const election = 15 * time.Second

// TestNodesOfEtcdStop stops each node of three in turn, and kills the leader, under
// load: reads go on throughout, changes fail no longer than an election, and nothing
// is lost.
func TestNodesOfEtcdStop(t *testing.T) {
	t.Parallel()
	cluster := testserver.Etcd(t, 3)
	served := binary.On(sidecar.EtcdOn(cluster)).Init(t).Start(t, "--keep-versions", "24")
	c := served.Admin()
	c.Put(slot("github", "staging"), value("kept")).Wants(http.StatusCreated)
	h, random := newHistory(t), seeded(t)
	h.outages = true
	during := func(name string, node int, end func(int)) {
		load(served, h, random, name, func(*sidecar.Sidecar) {
			stop, reading := make(chan struct{}), sync.WaitGroup{}
			reading.Go(func() { readsOn(t, c, stop) })
			end(node)
			writes := until(t, "a change without node "+name, func() bool {
				answer, err := c.Try(http.MethodPut, slot("jira", "staging"), value("x"))
				return err == nil && answer.Status < http.StatusMultipleChoices
			})
			t.Logf("%s: a change succeeds after %v", name, writes.Round(time.Millisecond))
			if writes > election {
				t.Errorf("%s: changes fail for %v", name, writes)
			}
			close(stop)
			reading.Wait()
			cluster.Start(t, node)
		})
		awaitRecovery(t, served)
		h.check(c)
	}
	for node := range 3 {
		during(fmt.Sprint("node-", node), node, cluster.Stop)
	}
	during("the-leader", cluster.Leader(t), cluster.Kill)
	h.wantsEfforts()
}

// readsOn resolves what was read before, and is never refused.
func readsOn(t *testing.T, c *sidecar.Client, stop <-chan struct{}) {
	marked, n := 0, 0
	for ; ; n++ {
		select {
		case <-stop:
			t.Logf("%d reads, %d of them stale", n, marked)
			return
		default:
		}
		answer, err := c.Try(http.MethodGet, resolve("github", "staging"), nil)
		if err != nil || answer.Status != http.StatusOK || !strings.Contains(string(answer.Body), `"kept"`) {
			t.Errorf("a read was refused: %v, %+v", err, answer)
			return
		}
		if answer.Header.Get(stale) != "" {
			marked++
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestServedSidecarsAreLinearizable checks histories of two sidecars whose server is
// killed and started again.
func TestServedSidecarsAreLinearizable(t *testing.T) { onOwn(t, testServedSidecarsAreLinearizable) }

func testServedSidecarsAreLinearizable(t *testing.T, s server) {
	two := twoSidecars(t, binary.On(s.storage))
	transport := &http.Transport{MaxIdleConnsPerHost: loadClients}
	t.Cleanup(transport.CloseIdleConnections)
	var clients []*sidecar.Client
	for _, one := range two {
		clients = append(clients, sidecar.NewClient(t, one.URL, one.AdminKey, transport))
	}
	times := 0
	linear.RunRemote(t, clients, func(ctx context.Context) { times = s.restarts(ctx) }, linear.Options{Operations: torturous(800, 5_000)})
	if times == 0 {
		t.Error("the server was never killed")
	}
	t.Logf("the server was killed %d times", times)
}
