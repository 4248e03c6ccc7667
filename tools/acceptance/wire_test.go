package acceptance

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// ending is a request after which the server closes the connection, whatever came
// before it: its answer is the last one.
const ending = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

// onWire sends bytes as they are, which a client of HTTP would tidy or refuse, and
// returns the answers up to the end of the connection. ADDRESS and KEY in the text
// stand for the sidecar's.
func onWire(t *testing.T, s *sidecar.Sidecar, text string) []*sidecar.Answer {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return talk(t, s, conn, text)
}

func talk(t *testing.T, s *sidecar.Sidecar, conn net.Conn, text string) (answers []*sidecar.Answer) {
	t.Helper()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	text = strings.NewReplacer("ADDRESS", strings.TrimPrefix(s.URL, "http://"), "KEY", s.AdminKey).Replace(text)
	// What is refused early is not read to its end.
	go io.WriteString(conn, text)
	from := bufio.NewReader(conn)
	for {
		if _, err := from.Peek(1); err != nil {
			if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
				t.Fatalf("the connection stays open after %d answers", len(answers))
			}
			return answers
		}
		resp, err := http.ReadResponse(from, nil)
		if err != nil {
			t.Fatalf("what comes after %d answers is none: %v", len(answers), err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("answer %d: %v", len(answers)+1, err)
		}
		answers = append(answers, &sidecar.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body})
	}
}

// wiretap is bytes on the wire, and the statuses that must come back.
type wiretap struct {
	name string
	text string
	want []int
}

// check sends the bytes and returns the answers.
func (w wiretap) check(t *testing.T, s *sidecar.Sidecar) []*sidecar.Answer {
	t.Helper()
	answers := onWire(t, s, w.text)
	for _, a := range answers {
		if bytes.Contains(a.Body, []byte("untouchable")) && a.Status != http.StatusOK {
			t.Error("a refusal has the secret")
		}
	}
	if got := statusesOf(answers); !slices.Equal(got, w.want) {
		t.Errorf("statuses %v, want %v", got, w.want)
	}
	return answers
}

func statusesOf(answers []*sidecar.Answer) (list []int) {
	for _, a := range answers {
		list = append(list, a.Status)
	}
	return list
}

// get is a request with the admin's key, and the ending after it.
func get(target string, headers ...string) string {
	return whole("GET", target, "", headers...) + ending
}

// whole is a request with the admin's key. A Host header among the headers takes the
// place of its own.
func whole(method, target, body string, headers ...string) string {
	head := method + " " + target + " HTTP/1.1\r\n"
	host := "Host: ADDRESS\r\n"
	for _, h := range headers {
		if strings.HasPrefix(strings.ToLower(h), "host") || h == "" {
			host = ""
		}
	}
	head += host + "Authorization: Bearer KEY\r\n"
	for _, h := range headers {
		if h != "" {
			head += h + "\r\n"
		}
	}
	return head + "\r\n" + body
}
