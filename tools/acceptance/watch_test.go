package acceptance

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// next returns the next event of a stream, in words and as it is, after it was held
// to the document.
func next(t *testing.T, w *sidecar.Watcher) (string, sidecar.WatchEvent) {
	t.Helper()
	e := w.Next()
	if err := document.CheckValue("WatchEvent", e.Data); err != nil {
		t.Errorf("event %s: %v", e.Kind, err)
	}
	if e.Kind != e.Type {
		t.Errorf("an event %s with the type %s", e.Kind, e.Type)
	}
	text := fmt.Sprintf("%s %s %s", e.Type, e.IntegrationID, scope(e.Environment))
	if e.Credential != nil {
		text += fmt.Sprintf(" %d %s", e.Credential.Version, e.Credential.Status)
	}
	return text, e
}

func TestWatch(t *testing.T) { onEach(t, testWatch) }

func testWatch(t *testing.T, on *sidecar.Binary) {
	s := on.Serve(t)
	c, canary := s.Admin(), newCanary(t, s)
	w := c.Watch("")
	wants := func(want string) {
		t.Helper()
		got, e := next(t, w)
		if got != want || e.ID == "" {
			t.Errorf("event %q with ID %q, want %q", got, e.ID, want)
		}
		canary.search("an event", e.Data)
	}
	set := sidecar.Data[wire.SetResult](c.Put(slot("slack", "staging"), value(canary.secret)).Wants(http.StatusCreated))
	wants("set slack staging 1 active")
	c.Put(slot("slack", "staging"), value(canary.secret)).Wants(http.StatusOK)
	wants("set slack staging 2 active")
	c.Patch(atID(set.Credential), map[string]any{"status": "inactive"}).Wants(http.StatusOK)
	wants("set slack staging 2 inactive")
	c.Post(atID(set.Credential)+"/rollback", map[string]any{"version": 1}).Wants(http.StatusOK)
	wants("set slack staging 3 active")
	c.Delete(slot("slack", "staging")).Wants(http.StatusOK)
	wants("removed slack staging")
	c.Put(slot("sftp", ""), value(canary.secret)).Wants(http.StatusCreated)
	wants("set sftp null 1 active")
	start := time.Now()
	s.Stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("with a watcher the sidecar needs %s to stop", took)
	}
}

func TestWatchResumes(t *testing.T) { onEach(t, testWatchResumes) }

func testWatchResumes(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	w := c.Watch("")
	last := w.Start
	w.Close()
	for round := range 3 {
		var want, got []string
		for i := range 5 {
			integration := []string{"slack", "sftp", "salesforce", "jira", "github"}[i]
			c.Put(slot(integration, "staging"), value("x"))
			want = append(want, fmt.Sprintf("set %s staging %d active", integration, round+1))
		}
		w := c.Watch(last)
		for range want {
			text, e := next(t, w)
			if e.ID == "" {
				t.Errorf("%s has no ID", text)
			}
			got, last = append(got, text), e.ID
		}
		w.Close()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("round %d (-want +got):\n%s", round, diff)
		}
	}
	for _, id := range []string{"x", "-1", "0", "1.5", "99999999999999999999", "1 2"} {
		c.Get("/v1/watch", "Last-Event-ID: "+id).Fails(http.StatusBadRequest, "INVALID_REQUEST")
	}
}

// A position that the sidecar cannot know of gets a reset: the changes since then
// may be any.
func TestWatchResets(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	s.Admin().Put(slot("slack", "staging"), value("x")).Wants(http.StatusCreated)
	s.Kill()
	c := s.Vault.Start(t).Admin()
	for _, id := range []string{"1", "4000000000"} {
		w := c.Watch(id)
		got, e := next(t, w)
		if got != "reset  null" || e.ID == "" {
			t.Errorf("after %s: %q with ID %q", id, got, e.ID)
		}
		c.Put(slot("slack", "staging"), value("y")).Wants(http.StatusOK)
		if got, _ := next(t, w); !strings.HasPrefix(got, "set slack staging") {
			t.Errorf("after the reset: %q", got)
		}
		w.Close()
	}
}

func TestWatchShowsTheGrantAlone(t *testing.T) { onEach(t, testWatchShowsTheGrantAlone) }

func testWatchShowsTheGrantAlone(t *testing.T, on *sidecar.Binary) {
	c := newCompany(t, on)
	watchers := map[int]*sidecar.Watcher{}
	for _, caller := range []int{reader, stagingReader, slackReader, stranger, lesserAdmin, admin} {
		watchers[caller] = c.as(caller).Watch("")
	}
	var all []string
	for _, integration := range []string{"salesforce", "slack"} {
		for _, environment := range []string{"production", "staging"} {
			c.admin.Put(slot(integration, environment), value("x")).Wants(http.StatusCreated)
			all = append(all, "set "+integration+" "+environment+" 1 active")
		}
		c.admin.Put(slot(integration, ""), value("x")).Wants(http.StatusCreated)
		all = append(all, "set "+integration+" null 1 active")
	}
	c.as(stranger).Put(slot("sftp", ""), value("x")).Wants(http.StatusCreated)
	c.admin.Delete(slot("slack", "")).Wants(http.StatusOK)
	all = append(all, "removed slack null")
	only := func(allowed func(string) bool) []string {
		return slices.DeleteFunc(slices.Clone(all), func(text string) bool { return !allowed(text) })
	}
	for caller, want := range map[int][]string{
		reader: all, admin: all,
		stagingReader: only(func(e string) bool { return !strings.Contains(e, "production") }),
		lesserAdmin:   only(func(e string) bool { return !strings.Contains(e, "production") }),
		slackReader:   only(func(e string) bool { return strings.Contains(e, "slack") }),
		stranger:      {"set sftp null 1 active"},
	} {
		var got []string
		for range want {
			text, _ := next(t, watchers[caller])
			got = append(got, text)
		}
		// What follows closely may come with the last state.
		for i, text := range got {
			if text == "removed slack null" && want[i] == "set slack null 1 active" {
				got[i] = want[i]
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", callerNames[caller], diff)
		}
		select {
		case e := <-watchers[caller].Events:
			t.Errorf("%s also gets %s", callerNames[caller], e.Data)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// A stream outlives the time that a request may take, and ends with its key: at once
// when it is revoked, with the next sign of life when it expires.
func TestWatchEndsWithItsKey(t *testing.T) { onEach(t, testWatchEndsWithItsKey) }

func testWatchEndsWithItsKey(t *testing.T, on *sidecar.Binary) {
	const beats = 200 * time.Millisecond
	c := on.Serve(t, "--limits-read-timeout", "500ms", "--limits-write-timeout", "500ms", "--watch-heartbeat", beats.String()).Admin()
	grant := map[string]any{"name": "watcher", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}}
	revoked := createKey(c, grant)
	w := c.As(revoked.Key).Watch("")
	grant["expiresAt"] = time.Now().Add(3 * time.Second).UTC().Format(time.RFC3339Nano)
	expiring := c.As(createKey(c, grant).Key).Watch("")
	select {
	case <-w.Events:
		t.Fatal("the stream has ended early, or has an event of nothing")
	case <-time.After(1500 * time.Millisecond):
	}
	c.Put(slot("slack", "staging"), value("x")).Wants(http.StatusCreated)
	if got, _ := next(t, w); got != "set slack staging 1 active" {
		t.Errorf("event %q", got)
	}
	c.Delete("/v1/keys/" + revoked.ID).Wants(http.StatusOK)
	wantsEnd(t, "a key that was revoked", w)
	until(t, "the end of the stream of an expired key", func() bool {
		_, open := <-expiring.Events
		return !open
	})
}

func wantsEnd(t *testing.T, of string, w *sidecar.Watcher) {
	t.Helper()
	select {
	case e, open := <-w.Events:
		if open {
			t.Errorf("the stream of %s has an event: %s", of, e.Data)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("the stream of %s goes on", of)
	}
}

// The stream of a revoked key ends at once, and not with the next sign of life.
func TestWatchEndsAtRevocation(t *testing.T) {
	t.Parallel()
	c := binary.Serve(t, "--watch-heartbeat", "1h").Admin()
	key := createKey(c, map[string]any{"name": "watcher", "scope": "user", "environments": []string{"*"}, "integrations": []string{"*"}})
	w := c.As(key.Key).Watch("")
	c.Delete("/v1/keys/" + key.ID).Wants(http.StatusOK)
	wantsEnd(t, "a key that was revoked", w)
}

// A reader that does not read is cut off, and nothing is buffered for it without
// bound.
func TestWatchCutsOffSlowReaders(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t, "--watch-timeout", "1s")
	c := s.Admin()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nX-Request-Id: slow-reader\r\n\r\n", s.AdminKey)
	if line, err := bufio.NewReaderSize(conn, 16).ReadString('\n'); err != nil || !strings.Contains(line, "200") {
		t.Fatalf("%q, %v", line, err)
	}
	labels := map[string]any{}
	for i := range 32 {
		labels[fmt.Sprint("label-", i)] = strings.Repeat("x", 256)
	}
	cred := createNamed(c, "default", "s")
	deadline := time.Now().Add(time.Minute)
	for !cutOff(s.Log()) {
		if time.Now().After(deadline) {
			t.Fatal("the stream of a reader that does not read goes on")
		}
		for range 20 { // the log is long to search
			c.Patch(atID(cred), map[string]any{"labels": labels}).Wants(http.StatusOK)
		}
	}
	c.Get("/v1/whoami").Wants(http.StatusOK)
}

func cutOff(log string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "watch ended") && strings.Contains(line, "slow-reader") {
			return true
		}
	}
	return false
}
