package vault_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault"
)

// load is readers and writers of the credentials of one environment. Each credential
// has one writer, whose values count up, so that a stale or a lost one shows.
type load struct {
	t     *testing.T
	f     *fixture
	hosts []*atomic.Pointer[vault.Vault]
	acked []atomic.Int64
	stop  chan struct{}
	wg    sync.WaitGroup
	reads atomic.Int64
	sets  atomic.Int64
}

// records is how many credentials a rotation is tested with: SIDEVAULT_TEST_RECORDS,
// else few enough for every run.
func records(t *testing.T) int {
	if s := os.Getenv("SIDEVAULT_TEST_RECORDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 400
}

func newLoad(t *testing.T, f *fixture, n int, hosts ...*vault.Vault) *load {
	l := &load{t: t, f: f, acked: make([]atomic.Int64, n), stop: make(chan struct{})}
	for _, h := range hosts {
		p := new(atomic.Pointer[vault.Vault])
		p.Store(h)
		l.hosts = append(l.hosts, p)
	}
	for i := range n {
		l.set(hosts[0], i)
	}
	return l
}

func (l *load) slot(i int) vault.Slot {
	s := l.f.slot("salesforce", "production")
	s.Name = fmt.Sprintf("n%d", i)
	return s
}

func (l *load) set(v *vault.Vault, i int) {
	next := l.acked[i].Load() + 1
	if _, err := v.Set(context.Background(), l.f.admin, l.slot(i), opaque(strconv.FormatInt(next, 10))); err != nil {
		l.t.Errorf("set %d: %v, %v", i, err, errors.Unwrap(err))
		return
	}
	l.acked[i].Store(next)
}

func (l *load) read(v *vault.Vault, i int) int64 {
	least := l.acked[i].Load()
	r, err := v.Resolve(context.Background(), l.f.admin, l.slot(i), vault.ResolveOptions{})
	if err != nil {
		l.t.Errorf("resolve %d: %v, %v", i, err, errors.Unwrap(err))
		return 0
	}
	got, _ := strconv.ParseInt(field(r).Reveal(), 10, 64)
	if got < least {
		l.t.Errorf("credential %d: read version %d after %d was acknowledged", i, got, least)
	}
	return got
}

const (
	readers, writers = 16, 4
	// pause leaves the rotation its part of a small machine.
	pause = 2 * time.Millisecond
)

func (l *load) start() {
	work := func(host, first, stride int, do func(*vault.Vault, int), count *atomic.Int64) {
		l.wg.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				i := (first + stride*rand.IntN(len(l.acked)/stride)) % len(l.acked)
				do(l.hosts[host%len(l.hosts)].Load(), i)
				count.Add(1)
				time.Sleep(pause)
			}
		})
	}
	for r := range readers {
		work(r, 0, 1, func(v *vault.Vault, i int) { l.read(v, i) }, &l.reads)
	}
	for w := range writers {
		work(w, w, writers, l.set, &l.sets)
	}
}

func (l *load) end() {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	for i := range l.acked {
		if got := l.read(l.hosts[0].Load(), i); got != l.acked[i].Load() {
			l.t.Errorf("credential %d holds %d, and %d was acknowledged last", i, got, l.acked[i].Load())
		}
	}
	if l.reads.Load() == 0 || l.sets.Load() == 0 {
		l.t.Error("there was no load")
	}
}

// rotated waits for the end of a rotation.
func (f *fixture) rotated(v *vault.Vault) {
	f.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		r, err := v.Rotation(f.t.Context(), f.admin, "production")
		if err != nil {
			f.t.Fatal(err)
		}
		if !r.Running {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("the rotation is at %d of %d", r.Done, r.Total)
		}
	}
}

// wantOneKey holds storage to a single key of production, with that number, and every
// record of it to that key.
func (f *fixture) wantOneKey(number string) {
	f.t.Helper()
	for _, family := range []string{"keyfile/", "keyinfo/"} {
		if list := f.stored(family + "production/"); len(list) != 1 || !strings.HasSuffix(list[0].Key, "/"+number) {
			f.t.Errorf("%s has %d keys, want %s alone", family, len(list), number)
		}
	}
	if left := f.stored("rotate/"); len(left) != 0 {
		f.t.Errorf("a rotation was left behind: %s", left[0].Value)
	}
}

func TestRotationUnderLoad(t *testing.T) {
	f := newFixture(t, vault.Options{Exclusive: true, Follow: true})
	l := newLoad(t, f, records(t), f.Vault)
	before := f.stored("record/")
	gone := f.set("pardot", "production", "deleted")
	if _, err := f.Remove(t.Context(), f.admin, f.slot("pardot", "production"), vault.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	l.start()
	if _, err := f.StartRotation(t.Context(), f.admin, "production"); err != nil {
		t.Fatal(err)
	}
	again, err := f.StartRotation(t.Context(), f.admin, "production")
	if err != nil || again.Key != 2 {
		t.Errorf("started twice: key %d, %v", again.Key, err)
	}
	interrupted := 0
	for range 5 {
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		if len(f.stored("rotate/")) == 1 {
			interrupted++
		}
		old := l.hosts[0].Swap(f.open())
		if err := old.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.rotated(l.hosts[0].Load())
	l.end()
	f.wantOneKey("0002")
	if interrupted == 0 {
		t.Error("the rotation was over before it was interrupted")
	}
	after := map[string]backends.Revision{}
	for _, r := range f.stored("record/") {
		after[r.Key] = r.Revision
	}
	for _, r := range before {
		if at, kept := after[r.Key]; kept && at == r.Revision {
			t.Fatalf("%s was not sealed anew", r.Key)
		}
	}
	if _, err := l.hosts[0].Load().Restore(t.Context(), "default", gone.Credential.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := l.hosts[0].Load().Resolve(t.Context(), f.admin, f.slot("pardot", "production"), vault.ResolveOptions{}); err != nil || field(got).Reveal() != "deleted" {
		t.Errorf("a credential that was deleted before the rotation: %v", err)
	}
	f.wantStages("end", "start")
}

// wantStages holds the audit log to what it says of rotations, newest first.
func (f *fixture) wantStages(want ...string) {
	f.t.Helper()
	var got []string
	for before := uint64(0); ; {
		list, next, err := f.Audit(f.t.Context(), f.admin, vault.AuditQuery{Action: vault.ActionRotateKey, Limit: 100, Before: before})
		if err != nil {
			f.t.Fatal(err)
		}
		for _, e := range list {
			if e.Outcome == vault.OutcomeSuccess {
				got = append(got, fmt.Sprint(e.Metadata["stage"]))
			}
		}
		if before = next; next == 0 {
			break
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		f.t.Errorf("the audit log has %v, want %v", got, want)
	}
}

// Two sidecars share storage: one rotates, and the other learns of it only by what it
// meets, or by following.
func TestRotationSeenByAnotherHost(t *testing.T) {
	for name, follow := range map[string]bool{"that follows": true, "that does not": false} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, vault.Options{Follow: follow})
			other := f.open()
			l := newLoad(t, f, 40, f.Vault, other)
			l.start()
			for n := range 3 {
				if _, err := f.StartRotation(t.Context(), f.admin, "production"); err != nil {
					t.Fatal(err)
				}
				f.rotated(f.Vault)
				f.wantOneKey(fmt.Sprintf("%04d", n+2))
			}
			l.end()
			for i := range l.acked {
				l.read(other, i)
			}
		})
	}
}

// A rotation that begins in the moment in which the one before ends is worked on, too.
func TestRotationsInSuccession(t *testing.T) {
	f := newFixture(t, vault.Options{Exclusive: true})
	if _, err := f.Set(t.Context(), f.admin, f.slot("salesforce", "production"), opaque("v")); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := f.StartRotation(t.Context(), f.admin, "production"); err != nil {
			t.Fatal(err)
		}
		// Asked without a pause, to be there in that moment.
		for ended := time.Now().Add(time.Minute); ; {
			r, err := f.Rotation(t.Context(), f.admin, "production")
			if err != nil || !r.Running {
				break
			}
			if time.Now().After(ended) {
				t.Fatalf("nobody works on the rotation: it is at %d of %d", r.Done, r.Total)
			}
		}
	}
	f.wantOneKey("0051")
}

func TestRotationKeepsTheKeyOfDamagedRecords(t *testing.T) {
	f := newFixture(t, vault.Options{Exclusive: true})
	made := f.set("salesforce", "production", "one")
	f.set("sftp", "production", "two")
	record := f.stored("record/" + f.init.Org.ID + "/" + string(made.Credential.ID))[0]
	f.rewrite(record.Key, append(record.Value[:len(record.Value)-1:len(record.Value)-1], record.Value[len(record.Value)-1]^1))
	_, err := f.Rotate(t.Context(), "production", nil)
	if err == nil || !strings.Contains(err.Error(), record.Key) {
		t.Fatalf("rotated with a record that no key opens: %v", err)
	}
	r, err := f.Rotation(t.Context(), f.admin, "production")
	if err != nil || len(r.Damaged) != 1 || !r.Running {
		t.Errorf("%+v, %v", r, err)
	}
	if len(f.stored("keyfile/production/")) != 2 {
		t.Error("the old key is gone")
	}
	f.rewrite(record.Key, record.Value)
	steps := 0
	if _, err := f.Rotate(t.Context(), "production", func(vault.Rotation) { steps++ }); err != nil || steps == 0 {
		t.Fatalf("%d steps, %v", steps, err)
	}
	f.wantOneKey("0002")
	if got, err := f.Resolve(t.Context(), f.admin, f.slot("salesforce", "production"), vault.ResolveOptions{}); err != nil || field(got).Reveal() != "one" {
		t.Errorf("after it was mended: %v", err)
	}
}

func TestRotationIsForAdmins(t *testing.T) {
	f := newFixture(t, vault.Options{})
	user := f.admin
	user.Admin = false
	_, err := f.StartRotation(t.Context(), user, "production")
	wantKind(t, err, vault.ForbiddenAdminScope)
	narrow := f.admin
	narrow.Environments = []string{"staging"}
	_, err = f.StartRotation(t.Context(), narrow, "production")
	wantKind(t, err, vault.Forbidden)
	_, err = f.Rotation(t.Context(), narrow, "production")
	wantKind(t, err, vault.Forbidden)
	f.wantOneKey("0001")
}
