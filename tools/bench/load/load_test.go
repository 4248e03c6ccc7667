package load

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// Quantiles are within the width of a class of what sorting says.
func TestQuantile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range 20_000 {
		all = append(all, time.Duration(random.ExpFloat64()*float64(300*time.Microsecond)))
	}
	h := Of(all)
	slices.Sort(all)
	for _, part := range []float64{0, 0.5, 0.9, 0.99, 1} {
		want := all[min(int(part*float64(len(all))), len(all)-1)]
		got := h.Quantile(part)
		if diff := (got - want).Abs(); diff > want/50+1 {
			t.Errorf("quantile %v is %v, sorting says %v", part, got, want)
		}
	}
	if empty := new(Histogram); empty.Quantile(0.5) != 0 {
		t.Error("an empty histogram has a median")
	}
}

// Every class holds the numbers between its neighbours'.
func TestClasses(t *testing.T) {
	for _, ns := range []uint64{0, 1, 63, 64, 127, 128, 129, 1000, 1 << 20, 1<<20 + 12345, 1 << 40} {
		if got := uint64(middle(class(ns))); max(got, ns)-min(got, ns) > ns/64 {
			t.Errorf("%d ns are counted as %d", ns, got)
		}
	}
}

func serve(t *testing.T, h http.HandlerFunc) Target {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return Target{
		Network: "tcp", Address: strings.TrimPrefix(s.URL, "http://"), Status: http.StatusOK,
		Requests: [][]byte{[]byte("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"), []byte("GET /b HTTP/1.1\r\nHost: localhost\r\n\r\n")},
	}
}

// Short answers have a length and long ones come in chunks; each is read to its end,
// or the next answer would be read as the rest of it.
func TestRun(t *testing.T) {
	for name, body := range map[string]string{"empty": "", "short": "x", "chunked": strings.Repeat("0\n", 40_000)} {
		t.Run(name, func(t *testing.T) {
			target := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(body)) })
			r, err := Run(t.Context(), target, 3, 50*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if r.Requests < 3 || r.PerSecond() <= 0 || r.Latency.Quantile(0.5) <= 0 {
				t.Errorf("%d requests, median %v", r.Requests, r.Latency.Quantile(0.5))
			}
		})
	}
}

func TestRunRefusesOtherAnswers(t *testing.T) {
	target := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) })
	if _, err := Run(t.Context(), target, 1, time.Second); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a refused request counts as an answer: %v", err)
	}
}

func TestRunSaysThatNobodyAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Run(t.Context(), Target{Network: "tcp", Address: l.Addr().String()}, 1, time.Second); err == nil {
		t.Error("there is a result without a server")
	}
}
