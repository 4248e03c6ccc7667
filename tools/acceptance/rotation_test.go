package acceptance

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// counters are credentials whose values count up. Each has one writer, so that a stale
// value and a lost one show.
type counters struct {
	t       *testing.T
	vault   *sidecar.Vault
	serving atomic.Pointer[sidecar.Client]
	tried   []atomic.Int64
	acked   []atomic.Int64

	over        atomic.Bool
	interrupted atomic.Bool // a sidecar is being killed: connections may break
	reads, sets atomic.Int64
	wg          sync.WaitGroup
}

const (
	counterReaders, counterWriters = 16, 4
	counterEnvironment             = "production"
)

func (l *counters) path(i int, resolving bool) string {
	path := slot("salesforce", counterEnvironment)
	if resolving {
		path = resolve("salesforce", counterEnvironment)
	}
	return fmt.Sprintf("%s&name=n%d", path, i)
}

// serve starts a sidecar and has the load go there.
func (l *counters) serve() *sidecar.Sidecar {
	s := l.vault.Start(l.t)
	transport := &http.Transport{MaxIdleConnsPerHost: counterReaders + counterWriters}
	l.t.Cleanup(transport.CloseIdleConnections)
	l.serving.Store(sidecar.NewClient(l.t, s.URL, s.AdminKey, transport))
	l.interrupted.Store(false)
	return s
}

// set sets a credential to its next value. Cut off, the value may be there or not.
func (l *counters) set(i int) {
	next := l.tried[i].Add(1)
	c := l.serving.Load()
	a, err := c.Try(http.MethodPut, l.path(i, false), value(strconv.FormatInt(next, 10)))
	switch {
	case err != nil:
		l.cut(c, err)
	case a.Status > http.StatusCreated:
		l.t.Errorf("a set answered %d: %s", a.Status, a.Body)
	default:
		l.acked[i].Store(next)
		l.sets.Add(1)
	}
}

// cut takes an error for the end of the sidecar, if it was killed.
func (l *counters) cut(c *sidecar.Client, err error) {
	if !l.interrupted.Load() && l.serving.Load() == c {
		l.t.Errorf("a request was cut off while nothing was killed: %v", err)
	}
	time.Sleep(5 * time.Millisecond)
}

// get reads a credential, whose value must be one that was tried after the last one
// that was acknowledged before.
func (l *counters) get(i int) {
	least := l.acked[i].Load()
	c := l.serving.Load()
	a, err := c.Try(http.MethodGet, l.path(i, true), nil)
	if err != nil {
		l.cut(c, err)
		return
	}
	if a.Status != http.StatusOK {
		l.t.Errorf("a read answered %d: %s", a.Status, a.Body)
		return
	}
	var body struct{ Data struct{ Value string } }
	got := int64(0)
	if json.Unmarshal(a.Body, &body) == nil {
		got, _ = strconv.ParseInt(body.Data.Value, 10, 64)
	}
	if most := l.tried[i].Load(); got < least || got > most {
		l.t.Errorf("credential %d reads as %d; %d was acknowledged before, and %d tried", i, got, least, most)
	}
	l.reads.Add(1)
}

func (l *counters) work(random *rand.Rand) {
	n := len(l.tried)
	for range counterReaders {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		l.loop(func() { l.get(own.IntN(n)) })
	}
	for w := range counterWriters {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		l.loop(func() { l.set(w + counterWriters*own.IntN(n/counterWriters)) })
	}
}

// loop leaves the rotation its part of a small machine.
func (l *counters) loop(do func()) {
	pause := time.Duration(torturous(2, 20)) * time.Millisecond
	l.wg.Go(func() {
		for !l.over.Load() && !l.t.Failed() {
			do()
			time.Sleep(pause)
		}
	})
}

// fill makes all credentials.
func (l *counters) fill() {
	var wg sync.WaitGroup
	for w := range counterReaders {
		wg.Go(func() {
			for i := w; i < len(l.tried); i += counterReaders {
				l.set(i)
			}
		})
	}
	wg.Wait()
}

func (l *counters) rotation() (r wire.Rotation) {
	a, err := l.serving.Load().Try(http.MethodGet, "/v1/environments/"+counterEnvironment+"/rotation", nil)
	if err != nil || a.Status != http.StatusOK {
		l.t.Fatalf("the rotation cannot be seen: %v", err)
	}
	return sidecar.Data[wire.Rotation](a)
}

// TestRotationUnderLoad rotates an environment's key while it is read and written, and
// kills the sidecar meanwhile, at moments of chance: no request fails, no value is
// stale, none is lost.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	records, kills := torturous(300, 10_000), torturous(2, 5)
	random := seeded(t)
	l := &counters{t: t, vault: binary.Init(t), tried: make([]atomic.Int64, records), acked: make([]atomic.Int64, records)}
	s := l.serve()
	l.fill()
	l.work(random)
	began := time.Now()
	s.Admin().Post("/v1/environments/"+counterEnvironment+"/rotation", nil).Wants(http.StatusAccepted)
	for n := range kills {
		l.killAt(s, records*(n+1)/(kills+2)+random.IntN(records/(kills+2)))
		s = l.serve()
	}
	l.reaches(1 << 30)
	took := time.Since(began)
	l.over.Store(true)
	l.wg.Wait()
	for i := range records {
		l.get(i)
	}
	t.Logf("%d records, killed %d times: %d reads and %d sets in %v", records, kills, l.reads.Load()-int64(records), l.sets.Load()-int64(records), took.Round(time.Millisecond))
	if l.sets.Load() <= int64(records) || l.reads.Load() <= int64(records) {
		t.Error("there was no load")
	}
	s.Stop()
	wantsOneKey(t, s.Vault, counterEnvironment)
}

// reaches waits until the rotation has come so far, and reports whether it did before
// it was over.
func (l *counters) reaches(credentials int) bool {
	l.t.Helper()
	const patience = time.Minute
	last, moved := -1, time.Now()
	for ; ; time.Sleep(time.Millisecond) {
		r := l.rotation()
		if !r.Running || r.Done >= credentials {
			return r.Running
		}
		if r.Done != last {
			last, moved = r.Done, time.Now()
		}
		if time.Since(moved) > patience || l.t.Failed() {
			l.over.Store(true)
			l.wg.Wait()
			l.t.Fatalf("the rotation stays at %d of %d", r.Done, r.Total)
		}
	}
}

// killAt kills the sidecar when its rotation has come so far.
func (l *counters) killAt(s *sidecar.Sidecar, credentials int) {
	l.t.Helper()
	if !l.reaches(credentials) {
		l.t.Fatalf("the rotation was over before it came to %d credentials", credentials)
	}
	l.interrupted.Store(true)
	s.Kill()
}

// wantsOneKey fails the test unless the environment has its second key alone, and the
// log the beginning and the end of one rotation.
func wantsOneKey(t *testing.T, v *sidecar.Vault, environment string) {
	t.Helper()
	storage := offline(t, v)
	var names []string
	for _, prefix := range []string{"keyfile/" + environment + "/", "keyinfo/" + environment + "/", "rotate/"} {
		list, err := storage.List(t.Context(), prefix, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			names = append(names, r.Key)
		}
	}
	if err := storage.Close(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("keyfile/%s/0002 keyinfo/%s/0002", environment, environment)
	if got := strings.Join(names, " "); got != want {
		t.Errorf("storage has %s, want %s", got, want)
	}
	s := v.Start(t)
	wantsAudited(t, s.Admin(), map[string]int{"rotate_environment_key": 2})
}
