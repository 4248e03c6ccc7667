package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/api/wire"
)

// streams answers each watch with the next of these streams, and with 401 after
// the last one. It notes the Last-Event-ID of each.
func streams(t *testing.T, asked *[]string, streams ...string) *Client {
	return sidecar(t, func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Header.Get(wire.HeaderLastEvent))
		if len(*asked) > len(streams) {
			answer(401, `{"error":{"code":"UNAUTHORIZED","message":"no"}}`)(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, streams[len(*asked)-1])
	}, Options{})
}

func removed(name string) string {
	return `event: removed` + "\n" + `data: {"type":"removed","integrationId":"slack","environment":null,"name":"` + name + `"}` + "\n\n"
}

// follow collects what a watch yields until it ends.
func follow(ctx context.Context, c *Client, id string) (got []string, last error) {
	for e, err := range c.Watch(ctx, id) {
		if err != nil {
			return got, err
		}
		got = append(got, e.Name+"@"+e.ID)
	}
	return got, nil
}

func TestWatchResumes(t *testing.T) {
	var asked []string
	c := streams(t, &asked,
		": alive\nid: 3\n\n"+removed("a")+"id: 4\n"+removed("b")+"id: 9\n"+strings.TrimSuffix(removed("cut"), "\n"),
		"id: 5\r\n"+strings.ReplaceAll(removed("c"), "\n", "\r\n"), "")
	got, err := follow(t.Context(), c, "2")
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "UNAUTHORIZED" {
		t.Errorf("ended with %v", err)
	}
	if want := "[a@3 b@4 c@5]"; fmt.Sprint(got) != want {
		t.Errorf("events %v, want %s", got, want)
	}
	if want := "[2 4 5 5]"; fmt.Sprint(asked) != want {
		t.Errorf("asked after %v, want %s", asked, want)
	}
}

func TestWatchEnds(t *testing.T) {
	var asked []string
	c := streams(t, &asked, removed("a")+removed("b"))
	for range c.Watch(t.Context(), "") {
		break
	}
	if len(asked) != 1 {
		t.Errorf("asked %d times", len(asked))
	}
	for status, fails := range map[int]bool{400: true, 401: true, 403: true, 404: true, 200: true} {
		c := sidecar(t, answer(status, `{"error":{"code":"X","message":"no"}}`), Options{})
		if _, err := follow(t.Context(), c, ""); (err != nil) != fails {
			t.Errorf("status %d: %v", status, err)
		}
	}
	unreachable := newClient(t, "unix://"+socket(t), Options{Retries: -1})
	if _, err := follow(t.Context(), unreachable, "9"); err == nil {
		t.Error("a sidecar that does not answer is waited for")
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := sidecar(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, removed("a"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}, Options{})
	n := 0
	for _, err := range c.Watch(ctx, "") {
		if n++; n == 1 {
			cancel()
		} else if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if n != 2 {
		t.Errorf("%d yielded", n)
	}
}

// A sidecar that is gone for a while is waited for.
func TestWatchOutlastsFailures(t *testing.T) {
	n := 0
	c := sidecar(t, func(w http.ResponseWriter, r *http.Request) {
		switch n++; n {
		case 2, 3:
			answer(503, `{"error":{"code":"BACKEND_UNAVAILABLE"}}`)(w, r)
		case 1, 4:
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, fmt.Sprintf("id: %d\n", n)+removed("a"))
		default:
			answer(403, `{"error":{"code":"FORBIDDEN"}}`)(w, r)
		}
	}, Options{Retries: -1})
	got, err := follow(t.Context(), c, "")
	if e, ok := errors.AsType[*Error](err); fmt.Sprint(got) != "[a@1 a@4]" || !ok || e.Status != 403 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestWatchIsBounded(t *testing.T) {
	for name, stream := range map[string]string{
		"line":     "data: " + strings.Repeat("x", maxLine) + "\n\n",
		"event":    strings.Repeat("data: "+strings.Repeat("x", 1<<10)+"\n", maxEvent>>10+1) + "\n",
		"not JSON": "data: " + canary + "\n\n",
	} {
		var asked []string
		_, err := follow(t.Context(), streams(t, &asked, stream, stream, stream), "")
		if err == nil || len(asked) != 1 || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v after %d connections", name, err, len(asked))
		}
	}
}

func TestPauses(t *testing.T) {
	for attempt := range 100 {
		if d := jitter(attempt); d <= 0 || d > lastBackoff {
			t.Errorf("attempt %d: %s", attempt, d)
		}
	}
	if jitter(0) > 100*time.Millisecond {
		t.Error("the first pause is long")
	}
}

// FuzzEvents holds the reader to its bounds, and to reading what a sidecar would
// print as it was.
func FuzzEvents(f *testing.F) {
	f.Add("id: 1\nevent: set\ndata: {}\n\n: alive\n\ndata: a\r\ndata: b\r\n\r\n")
	f.Add("\r\rid\ndata\n\n")
	f.Add(":\n\n\x00\n")
	f.Fuzz(func(t *testing.T, stream string) {
		r := newEventReader(strings.NewReader(stream))
		for {
			e, err := r.next()
			if err != nil {
				return
			}
			if len(e.data) > maxEvent+maxLine || strings.ContainsAny(e.id, "\r\n\x00") {
				t.Fatalf("%d bytes of data, ID %q", len(e.data), e.id)
			}
			var printed bytes.Buffer
			for line := range bytes.SplitSeq(e.data, []byte("\n")) {
				fmt.Fprintf(&printed, "data: %s\n", line)
			}
			fmt.Fprintf(&printed, "event: %s\nid: %s\n\n", e.kind, e.id)
			again, err := newEventReader(&printed).next()
			if err != nil || again.id != e.id || again.kind != e.kind || !bytes.Equal(again.data, e.data) {
				t.Fatalf("%+v is read again as %+v, %v", e, again, err)
			}
		}
	})
}
