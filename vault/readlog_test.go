package vault

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// gone is storage that is away.
type gone struct{ backends.Backend }

func (gone) Get(context.Context, string) (backends.Record, error) {
	return backends.Record{}, backends.ErrUnavailable
}

func (gone) Commit(context.Context, backends.Batch) (backends.Revision, error) {
	return 0, backends.ErrUnavailable
}

// What waits for storage is bounded, also when a client makes every read another.
func TestPendingReadsAreBounded(t *testing.T) {
	tree, err := envs.New(envs.Default())
	if err != nil {
		t.Fatal(err)
	}
	v := &Vault{backend: gone{}, envs: tree, clock: time.Now, log: slog.New(slog.DiscardHandler), stale: func() time.Duration { return time.Second }}
	l := newReadLog(v, ReadsCoalesced, time.Hour)
	read := func(n int) error {
		return l.record(t.Context(), &attempt{caller: Caller{Origin: Origin{Realm: fmt.Sprint(n)}}}, envs.Shared, &keptCredential{Credential: Credential{ID: "c"}})
	}
	for n := range 3 * maxPendingReads {
		err := read(n)
		if (err == nil) != (n < maxPendingReads) || err != nil && KindOf(err) != BackendUnavailable {
			t.Fatalf("the read number %d of as many callers: %v", n+1, err)
		}
		if n%(maxPendingReads/4) == 0 {
			l.flush(t.Context())
		}
	}
	// What a flush has taken is known again when it has failed.
	err = read(1)
	for patience := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(patience); err = read(1) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Errorf("one more of those that are counted already: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.close(ctx); err == nil {
		t.Error("it was closed with reads unrecorded, and said nothing")
	}
}

// TestReadsAreCountedApart has readers read versions of a credential from several scopes in
// turn, also as it is held after it was dropped from memory and read again.
func TestReadsAreCountedApart(t *testing.T) {
	v := &Vault{clock: time.Now}
	l := &readLog{v: v, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].turn, l.shards[i].at = 1, map[readKey]int{}
	}
	type read struct {
		id      ID
		realm   string
		version uint64
		asked   envs.Scope
	}
	counted, want := map[read]int{}, map[read]int{}
	collect := func() {
		seen := map[read]bool{}
		for _, c := range take(l.shards[:]) {
			r := read{c.credential, c.reader.Value().origin.Realm, c.version, c.asked}
			if seen[r] {
				t.Errorf("%+v is counted twice in one turn", r)
			}
			if c.found.ID != c.credential || c.first > c.last {
				t.Errorf("%+v: found %s, read from %d to %d", r, c.found.ID, c.first, c.last)
			}
			seen[r] = true
			counted[r] += c.reads
		}
	}
	kept := map[ID]*keptCredential{}
	for n := range 20_000 {
		r := read{ID(fmt.Sprint("cred-", rand.IntN(40))), fmt.Sprint(rand.IntN(3)), 1 + rand.Uint64N(2), envs.Scope([]string{"staging", "production"}[rand.IntN(2)])}
		if kept[r.id] == nil || rand.IntN(50) == 0 {
			kept[r.id] = &keptCredential{Credential: Credential{ID: r.id}}
		}
		if rand.IntN(20) == 0 { // as another vault over the same cache would
			kept[r.id].counted.Store(uint64(1+rand.IntN(30))<<32 | uint64(rand.IntN(20)))
		}
		want[r]++
		if !l.add(&attempt{caller: Caller{Origin: Origin{Realm: r.realm}}, entry: auditBody{Version: r.version}, at: time.UnixMilli(rand.Int64N(1000))}, r.asked, kept[r.id]) {
			t.Fatal("there is no room")
		}
		if n%700 == 0 {
			collect()
		}
	}
	collect()
	if !maps.Equal(counted, want) {
		t.Errorf("counted %v, want %v", counted, want)
	}
}
