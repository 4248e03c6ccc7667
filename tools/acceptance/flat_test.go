package acceptance

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// held is what a process has of what runs out.
type held struct{ descriptors, goroutines, resident int }

// heldBy reads it once the connections of this test are gone, since a server keeps
// a descriptor and goroutines for each.
func heldBy(t *testing.T, s *sidecar.Sidecar, client *http.Client) held {
	t.Helper()
	client.CloseIdleConnections()
	var f held
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID()))
		must(t, err)
		f = held{descriptors: 0, goroutines: metric(t, s, client, "go_goroutines"), resident: status(t, s, "VmRSS:")}
		for _, fd := range open {
			if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", s.PID(), fd.Name())); err == nil && !strings.HasPrefix(to, "socket:") {
				f.descriptors++
			}
		}
		client.CloseIdleConnections()
		if sockets := len(open) - f.descriptors; sockets <= 4 || time.Now().After(deadline) {
			f.descriptors = len(open)
			return f
		}
	}
}

func metric(t *testing.T, s *sidecar.Sidecar, client *http.Client, name string) int {
	t.Helper()
	resp, err := client.Get(s.URL + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			must(t, err)
			return int(n)
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// status returns a number of /proc/PID/status.
func status(t *testing.T, s *sidecar.Sidecar, name string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, err := strconv.Atoi(f[1])
			must(t, err)
			return n
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// mix is what the requests are: most of them reads, and some of everything that opens,
// fails or changes something.
type mix struct {
	s      *sidecar.Sidecar
	client *http.Client
	wrong  atomic.Int64 // answers of another status than wanted
	first  sync.Once
	said   string
}

func (m *mix) one(ctx context.Context, random *rand.Rand) {
	integration := []string{"salesforce", "slack", "jira"}[random.IntN(3)]
	at := slot(integration, "staging") + fmt.Sprintf("&name=n%d", random.IntN(20))
	switch n := random.IntN(100); {
	case n < 70:
		m.resolve(ctx)
	case n < 78:
		m.send(ctx, http.MethodPut, at, `{"value":"x"}`, m.s.AdminKey, 200, 201)
	case n < 83:
		m.send(ctx, http.MethodDelete, at+"&ifExists=true", "", m.s.AdminKey, 200)
	case n < 86:
		m.send(ctx, http.MethodGet, "/v1/integrations/credentials?limit=20", "", m.s.AdminKey, 200)
	case n < 88:
		m.watch(ctx)
	case n < 92:
		m.send(ctx, http.MethodGet, "/v1/whoami", "", fmt.Sprintf("svk_%043d", random.Uint64()), 401, 429)
	case n < 95:
		m.send(ctx, http.MethodGet, resolve("telegram", "staging"), "", m.s.AdminKey, 404)
	case n < 97:
		m.send(ctx, http.MethodPut, at, `{"value":`, m.s.AdminKey, 400)
	case n < 98:
		m.send(ctx, http.MethodGet, fmt.Sprintf("/v1/nothing/%d", random.Uint64()), "", m.s.AdminKey, 404)
	default:
		m.send(ctx, http.MethodGet, "/v1/audit?limit=5", "", m.s.AdminKey, 200)
	}
}

func (m *mix) resolve(ctx context.Context) {
	m.send(ctx, http.MethodGet, resolve("salesforce", "staging"), "", m.s.AdminKey, 200)
}

func (m *mix) send(ctx context.Context, method, path, body, key string, want ...int) {
	req, err := http.NewRequestWithContext(ctx, method, m.s.URL+path, strings.NewReader(body))
	if err != nil {
		m.fault(err.Error())
		return
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := m.client.Do(req)
	if err != nil {
		m.fault(err.Error())
		return
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	for _, status := range want {
		if resp.StatusCode == status {
			return
		}
	}
	m.fault(fmt.Sprintf("%s %s: status %d, want %v", method, path, resp.StatusCode, want))
}

// watch opens a stream and leaves it after its first bytes.
func (m *mix) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, m.s.URL+"/v1/watch", nil)
	req.Header.Set("Authorization", "Bearer "+m.s.AdminKey)
	resp, err := m.client.Do(req)
	if err != nil {
		m.fault(err.Error())
		return
	}
	defer resp.Body.Close()
	if n, _ := resp.Body.Read(make([]byte, 16)); n == 0 || resp.StatusCode != http.StatusOK {
		m.fault(fmt.Sprintf("GET /v1/watch: status %d, %d bytes", resp.StatusCode, n))
	}
}

func (m *mix) fault(text string) {
	m.wrong.Add(1)
	m.first.Do(func() { m.said = text })
}

// run sends so many requests from some clients.
func (m *mix) run(ctx context.Context, n int, seed uint64) {
	const clients = 8
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(c)))
			for i := range n / clients {
				if i%torturous(1, 10) == 0 { // of a million, a hundred thousand are of all kinds
					m.one(ctx, random)
				} else {
					m.resolve(ctx)
				}
			}
		})
	}
	wg.Wait()
}

// TestResourcesStayFlat sends many requests of all kinds and compares what the process
// holds after the first part of them with what it holds at the end.
func TestResourcesStayFlat(t *testing.T) {
	t.Parallel()
	s := binary.Shipped(t).Serve(t, "--log-level", "info")
	s.Admin().Put(slot("salesforce", "staging"), value("x")).Wants(http.StatusCreated)
	m := &mix{s: s, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: time.Minute}}
	total, seed := torturous(10_000, 1_000_000), uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	warm := total / 5
	m.run(t.Context(), warm, seed)
	before := heldBy(t, s, m.client)
	began := time.Now()
	m.run(t.Context(), total-warm, seed+1)
	after := heldBy(t, s, m.client)
	t.Logf("%d requests, %.0f a second: %+v after a fifth of them, %+v at the end (KiB)", total, float64(total-warm)/time.Since(began).Seconds(), before, after)
	if n := m.wrong.Load(); n > 0 {
		t.Errorf("%d answers are not as they must be, such as: %s", n, m.said)
	}
	const slack = 8
	if after.descriptors > before.descriptors+slack || after.goroutines > before.goroutines+slack {
		t.Errorf("descriptors or goroutines grow from %+v to %+v", before, after)
	}
	// The pages of the file that are in use grow with the log, and the collector's moment
	// is chance; over a million requests this is a quarter of a kilobyte for each.
	if grown := after.resident - before.resident; grown > max(before.resident/2, (total-warm)/4) {
		t.Errorf("resident memory grows by %d KiB, from %d", grown, before.resident)
	}
}
