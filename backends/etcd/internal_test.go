package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/testserver"
)

func TestURLs(t *testing.T) {
	good := map[string]struct {
		hosts  []string
		prefix layout
	}{
		"etcd://h1:1,h2:2/p":              {[]string{"h1:1", "h2:2"}, "/p"},
		"etcd://h1,h2,h3:9/p/q/":          {[]string{"h1:2379", "h2:2379", "h3:9"}, "/p/q"},
		"etcd://h":                        {[]string{"h:2379"}, "/sidevault"},
		"etcd://h/?tls=true":              {[]string{"h:2379"}, "/sidevault"},
		"etcd://[::1]:1,[fe80::1]/p":      {[]string{"[::1]:1", "[fe80::1]:2379"}, "/p"},
		"etcd://u:p%40%2F@h/p":            {[]string{"h:2379"}, "/p"},
		"etcd://h/p?dial-timeout=2s":      {[]string{"h:2379"}, "/p"},
		"etcd://u@h/p?cert=/a&key=/b":     {[]string{"h:2379"}, "/p"},
		"etcd://10.0.0.1:2379,10.0.0.2/p": {[]string{"10.0.0.1:2379", "10.0.0.2:2379"}, "/p"},
	}
	for url, want := range good {
		got, err := parse(url)
		if err != nil || !slices.Equal(got.hosts, want.hosts) || got.prefix != want.prefix {
			t.Errorf("%s: %v %q, %v", url, got.hosts, got.prefix, err)
		}
	}
	if got, err := parse("etcd://u:p%40%2F@h/p"); err != nil || got.user != "u" || got.password.reveal() != "p@/" {
		t.Errorf("the user is %q, %v", got.user, err)
	}
	for _, url := range []string{
		"", "http://h/p", "etcd://", "etcd:///p", "etcd://h:x/p", "etcd://h:0/p", "etcd://h,,h/p", "etcd://h,/p", "etcd://@h/p",
		"etcd://h/p//q", "etcd://h/../p", "etcd://h/p q", "etcd://h/p?nope=1", "etcd://h/p?tls=maybe", "etcd://h/p?tls=true&tls=true",
		"etcd://h/p?cert=/a", "etcd://h/p?dial-timeout=2", "etcd://h/p?dial-timeout=-1s", "etcd://h/p?tls=false&ca=/x", "etcd://u@h/p",
		"etcd://:" + secretWord + "@h/p", "etcd://u:" + secretWord + "%zz@h/p", "etcd://u:" + secretWord + "@h/p?password-file=/x",
		"etcd://u:" + secretWord + "@h:" + secretWord + "/p", "etcd://u:" + secretWord + "@h/p?" + secretWord + "%zz",
		"etcd://u@h/p?password-file=/none", "etcd://h/" + strings.Repeat("p", 128),
	} {
		if _, err := Open(t.Context(), url, nil); err == nil || strings.Contains(err.Error(), secretWord) {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

func TestCompaction(t *testing.T) {
	c := testserver.Etcd(t, 1)
	b, client := open(t, c.URL()), c.Client(t)
	var revs []backends.Revision
	for n := range 20 {
		at, err := b.Commit(t.Context(), put(fmt.Sprint(n), 0, ""))
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, at)
	}
	middle, err := b.locate(t.Context(), revs[9])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), middle); err != nil {
		t.Fatal(err)
	}
	for _, after := range []backends.Revision{0, 1, revs[8]} {
		if _, err := b.Watch(t.Context(), after); !errors.Is(err, backends.ErrCompacted) {
			t.Errorf("Watch(%d) after compaction up to %d: got %v", after, revs[10], err)
		}
	}
	for _, i := range []int{9, 10, 18} {
		expectNext(t, b, revs[i], revs[i+1])
	}
	// Others may use the cluster: their revisions, and their compactions, are no gap.
	for range 10 {
		if _, err := client.Put(t.Context(), "/others", "x"); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := client.Get(t.Context(), "/others")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
	events, err := b.Watch(t.Context(), revs[19])
	if err != nil {
		t.Fatalf("Watch from the head after compaction: %v", err)
	}
	at, err := b.Commit(t.Context(), put("next", 0, ""))
	if e := <-events; err != nil || e.Revision != at {
		t.Errorf("got event %d, want %d, %v", e.Revision, at, err)
	}
	if at != revs[19]+1 {
		t.Errorf("the use that others make of the cluster moved the revision from %d to %d", revs[19], at)
	}
}

func expectNext(t *testing.T, b *Backend, after, want backends.Revision) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	events, err := b.Watch(ctx, after)
	if err != nil {
		t.Errorf("Watch(%d): %v", after, err)
		return
	}
	if e := <-events; e.Revision != want {
		t.Errorf("Watch(%d) begins with %d, want %d", after, e.Revision, want)
	}
}

// TestCompactionWhileAway compacts what a watch without a connection has not seen.
func TestCompactionWhileAway(t *testing.T) {
	c := testserver.Etcd(t, 1)
	p := testserver.NewProxy(t, c.Hosts()[0])
	url := c.URL()
	away, near := open(t, strings.Replace(url, c.Hosts()[0], p.Addr(), 1)), open(t, url)
	events, err := away.Watch(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	p.Hold(true)
	for n := range 5 {
		if _, err := near.Commit(t.Context(), put(fmt.Sprint(n), 0, "")); err != nil {
			t.Fatal(err)
		}
	}
	client := c.Client(t)
	resp, err := client.Put(t.Context(), "/others", "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
	p.Hold(false)
	select {
	case e, open := <-events:
		if open {
			t.Errorf("got event %d over a gap", e.Revision)
		}
	case <-time.After(20 * time.Second):
		t.Error("the channel is open, and nothing comes")
	}
	if _, err := away.Watch(t.Context(), 0); !errors.Is(err, backends.ErrCompacted) {
		t.Errorf("Watch(0): got %v", err)
	}
}

// TestFarWriter lets a writer behind a slow connection race one that never rests.
func TestFarWriter(t *testing.T) {
	c := testserver.SharedEtcd(t)
	url := c.URL()
	p := testserver.NewProxy(t, c.Hosts()[0])
	near, far := open(t, url), open(t, strings.Replace(url, c.Hosts()[0], p.Addr(), 1))
	p.Delay(20 * time.Millisecond)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			default:
			}
			if _, err := near.Commit(t.Context(), put(fmt.Sprint("near/", n), 0, "")); err != nil {
				t.Errorf("near: %v", err)
			}
		}
	}()
	start := time.Now()
	const commits = 5
	for n := range commits {
		if _, err := far.Commit(t.Context(), put(fmt.Sprint("far/", n), 0, "")); err != nil {
			t.Errorf("far: %v", err)
		}
	}
	took := time.Since(start)
	close(stop)
	t.Logf("%d commits from far in %v, %d from near", commits, took, <-done)
	if took > 10*time.Second {
		t.Errorf("%d commits took %v", commits, took)
	}
}

// TestFullRequests replaces the longest keys with the most bytes below the longest
// prefix, which must fit into what etcd takes by default.
func TestFullRequests(t *testing.T) {
	c := testserver.SharedEtcd(t)
	url := c.URL() + "/"
	b := open(t, url+strings.Repeat("p", maxPrefix-len(parsed(t, url).prefix)-1))
	var at backends.Revision
	for range 3 {
		var full backends.Batch
		room := backends.MaxBatch / (backends.MaxChanges + backends.MaxEntries)
		for n := range backends.MaxChanges {
			key := strings.Repeat("k", backends.MaxKey-2) + fmt.Sprintf("%02d", n)
			full.Changes = append(full.Changes, backends.Put(key, at, bytes.Repeat([]byte{1}, room)))
		}
		for range backends.MaxEntries {
			full.Entries = append(full.Entries, bytes.Repeat([]byte{2}, room))
		}
		next, err := b.Commit(t.Context(), full)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Commit(t.Context(), full); !errors.Is(err, backends.ErrConflict) {
			t.Errorf("the same batch again: got %v", err)
		}
		at = next
	}
}

// TestCancelledWhileHung ends the context of a commit whose answer does not come.
func TestCancelledWhileHung(t *testing.T) {
	c := testserver.Etcd(t, 1)
	b := open(t, c.URL())
	if _, err := b.Commit(t.Context(), put("before", 0, "")); err != nil {
		t.Fatal(err)
	}
	c.Pause(0)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := b.Commit(ctx, put("hung", 0, ""))
	if !errors.Is(err, backends.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := b.Get(ctx, "before"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get: %v", err)
	}
	c.Resume(0)
	eventually(t, func() error { _, err := b.Commit(t.Context(), put("after", 0, "")); return err })
}

// TestHostileContents writes random bytes over what is stored: calls answer
// ErrCorrupt or as if it were true, and never panic.
func TestHostileContents(t *testing.T) {
	c := testserver.SharedEtcd(t)
	url := c.URL()
	root := string(parsed(t, url).prefix)
	client := c.Client(t)
	for name, spoil := range map[string]struct{ key, value string }{
		"empty head": {"/head", ""}, "short head": {"/head", "\x01"}, "garbage head": {"/head", "\x01" + strings.Repeat("\xff", 200)},
		"empty record": {"/r/k", ""}, "short record": {"/r/k", "12345678"}, "foreign record": {"/r/k", "12345678\x07value"},
		"short entry": {"/l/00000000000000000001", "x"}, "foreign entry": {"/l/1", "x"}, "huge entry": {"/l/99999999999999999999", strings.Repeat("x", 100)},
		"no entries": {"/l/00000000000000000001-02", ""}, "short entries": {"/l/00000000000000000001-02", "\x40" + strings.Repeat("x", 63)},
		"miscounted entries": {"/l/00000000000000000001-03", strings.Repeat("\x40"+strings.Repeat("x", 64), 2)},
		"turn":               {"/turn", "-99999999999999999999"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, url)
			h, err := b.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			at, err := b.Commit(t.Context(), backends.Batch{Changes: []backends.Change{backends.Put("k", 0, []byte("v"))}, Entries: [][]byte{[]byte("e")}})
			if err != nil {
				t.Fatal(err)
			}
			events, err := b.Watch(t.Context(), h.Revision)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Put(t.Context(), root+spoil.key, spoil.value); err != nil {
				t.Fatal(err)
			}
			met := 0
			for call, err := range everyCall(t, b, at) {
				if errors.Is(err, backends.ErrCorrupt) {
					met++
				} else if err != nil && !errors.Is(err, backends.ErrConflict) {
					t.Errorf("%s: %v", call, err)
				}
			}
			if met == 0 && name != "turn" {
				t.Error("nobody noticed")
			}
			<-events
			if _, err := client.Delete(t.Context(), root+"/", clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func everyCall(t *testing.T, b *Backend, at backends.Revision) map[string]error {
	ctx := t.Context()
	_, get := b.Get(ctx, "k")
	_, list := b.List(ctx, "", "", 10)
	_, log := b.Log(ctx, 0, 10)
	_, head := b.Head(ctx)
	_, watch := b.Watch(ctx, at)
	_, commit := b.Commit(ctx, put("k", at, "w"))
	return map[string]error{"Get": get, "List": list, "Log": log, "Head": head, "Watch": watch, "Commit": commit}
}

func FuzzJournal(f *testing.F) {
	j := journal{commits: [][]string{{"a", "b"}, {}, {"c"}}}
	j.Revision, j.Seq = 7, 9
	f.Add([]byte(j.marshal()))
	f.Add([]byte("\x01"))
	f.Add(append([]byte(j.marshal()), 0xff))
	f.Fuzz(func(t *testing.T, stored []byte) {
		j, err := parseJournal(stored)
		if err != nil {
			return
		}
		if again := j.marshal(); again != string(stored) {
			t.Errorf("%q was read and is written as %q", stored, again)
		}
		j.events(0)
	})
}

// TestDeletedHead wipes the storage under a handle, which must not begin anew.
func TestDeletedHead(t *testing.T) {
	c := testserver.SharedEtcd(t)
	b := open(t, c.URL())
	if _, err := b.Commit(t.Context(), put("k", 0, "v")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client(t).Delete(t.Context(), string(b.layout)+"/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := b.Commit(t.Context(), put("k", 0, "v"))
		checkLine(t, err, backends.ErrCorrupt, "the head was deleted")
		_, err = b.Head(t.Context())
		checkLine(t, err, backends.ErrCorrupt, "the head was deleted")
	}
}
