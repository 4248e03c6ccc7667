//go:build linux

package host

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// lines returns the log's entries of one plugin that hold a text.
func (r *rig) lines(text string) []map[string]any {
	r.t.Helper()
	var found []map[string]any
	for line := range strings.Lines(r.logs.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			r.t.Fatal(err)
		}
		if strings.Contains(line, text) {
			found = append(found, entry)
		}
	}
	return found
}

func TestLogs(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	for _, c := range []struct{ text, find, level, msg string }{
		{"plain-1 VALUE\x1b[2J tail\n", "plain-1", "INFO", "plain-1 <redacted>[2J tail"},
		{`{"level":"WARN","msg":"json-1 VALUE","time":"x","a":1,"b":"VALUE"}` + "\n", "json-1", "WARN", "json-1 <redacted>"},
		{`{"@level":"error","@message":"hclog-1","@timestamp":"x"}` + "\n", "hclog-1", "ERROR", "hclog-1"},
		{`{"level":"debug","message":"json-2"}` + "\r\n", "json-2", "DEBUG", "json-2"},
		{`{"not":"a log line-1"}` + "\n", "log line-1", "INFO", `{"not":"a log line-1"}`},
		{strings.Repeat("long-1 ", 1000) + "VALUE\n", "long-1", "INFO", ""},
		// The cut falls into the secret: nothing of it may stay.
		{"cut-1" + strings.Repeat("y", longestLine-5-6) + "VALUE\n", "cut-1", "INFO", ""},
	} {
		r.ask2("p", order{Do: "log", Text: c.text})
		eventually(t, c.find, func() bool { return len(r.lines(c.find)) > 0 })
		entry := r.lines(c.find)[0]
		if entry["plugin"] != "p" || entry["level"] != c.level || c.msg != "" && entry["msg"] != c.msg {
			t.Errorf("%s: %v", c.find, entry)
		}
		if n := len(entry["msg"].(string)); n > longestLine {
			t.Errorf("%s has %d bytes", c.find, n)
		}
	}
	if data := r.lines("json-1")[0]["data"].(map[string]any); data["a"] != "1" || data["b"] != "<redacted>" {
		t.Errorf("attributes: %v", data)
	}
	if strings.Contains(r.logs.String(), canary[:6]) {
		t.Error("the log has a part of the secret")
	}
	r.ask2("p", order{Do: "print"})
	eventually(t, "what go-plugin takes over is logged", func() bool { return len(r.lines("printed <redacted>")) == 1 })
}

// ask2 makes a call that must be answered with a verdict.
func (r *rig) ask2(name string, o order) {
	r.t.Helper()
	if v, err := r.validate(callTo(name, o)); err != nil || v.Rejected {
		r.t.Fatalf("%s: %+v, %v", o.Do, v, err)
	}
}

func TestFloods(t *testing.T) {
	for _, text := range []string{"y\n", "y", strings.Repeat("long", 5000) + "\n", `{"level":"info","msg":"x"}` + "\n"} {
		t.Run(fmt.Sprintf("%.6q", text), func(t *testing.T) {
			r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"), fixtureProgram("other", "serve"))
			r.ok("other")
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			done := make(chan error, 1)
			began := time.Now()
			go func() {
				_, err := r.validate(within(2*time.Minute, "p", order{Do: "gigabyte", Text: text}))
				done <- err
			}()
			slowest := time.Duration(0)
			for running := true; running; {
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
					running = false
				default:
					at := time.Now()
					r.ok("other")
					slowest = max(slowest, time.Since(at))
					time.Sleep(time.Millisecond)
				}
			}
			runtime.ReadMemStats(&after)
			t.Logf("1 GiB in %v, slowest other call %v, %d KiB more heap", time.Since(began), slowest, (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>10)
			if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 32<<20 {
				t.Errorf("the heap has grown by %d MiB", grown>>20)
			}
			if slowest > 3*time.Second {
				t.Errorf("a call to another plugin took %v", slowest)
			}
			most := linesAtOnce + 10 + int(linesPerSec*time.Since(began).Seconds())
			if n := strings.Count(r.logs.String(), "\n"); n > most {
				t.Errorf("%d lines were logged, at most %d may be", n, most)
			}
			if strings.HasSuffix(text, "\n") {
				eventually(t, "lost lines are reported", func() bool { return len(r.lines("lines dropped")) > 0 })
			}
		})
	}
}

func TestStdoutFlood(t *testing.T) {
	r := newRig(t, quick(), Options{}, fixtureProgram("p", "serve"))
	r.ask2("p", order{Do: "stdout", Text: "1|1|unix|x|grpc\n"})
	r.ask2("p", order{Do: "stdout", Text: "y"})
	r.ok("p")
}

func TestRecent(t *testing.T) {
	r := newRecent()
	value := func(i int) seal.Fields { return seal.Fields{"value": secret.New(fmt.Sprintf("secret-%06d", i))} }
	for i := range 1000 {
		r.add(value(i))
		r.add(value(0)) // used all the time
		if i%100 == 99 {
			for j := max(0, i-remembered+2); j <= i; j++ {
				if text := fmt.Sprintf("secret-%06d", j); r.strike(text) != secret.Redacted {
					t.Fatalf("after %d calls, number %d is forgotten", i, j)
				}
			}
			if r.strike("secret-000000") != secret.Redacted {
				t.Fatal("the one that is used all the time is forgotten")
			}
		}
	}
	if len(r.order) != remembered || len(r.known) != remembered {
		t.Errorf("%d and %d are kept", len(r.order), len(r.known))
	}
	r.add(nil)
}

func callWith(i int) seal.Fields {
	return seal.Fields{"value": secret.New(fmt.Sprintf("xoxb-%08d-secret-token-of-usual-length", i))}
}
