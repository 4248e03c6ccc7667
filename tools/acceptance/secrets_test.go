package acceptance

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	encoding "encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// secrets are what must be found nowhere, by what each of them is. They are never
// printed: what is reported is the name.
type secrets struct {
	t *testing.T

	mu    sync.Mutex
	cores map[string]string
	index map[uint64][]spelling // by the first bytes
}

// spelling is a spelling of a part of a secret.
type spelling struct {
	name string
	text []byte
}

func newSecrets(t *testing.T) *secrets {
	return &secrets{t: t, cores: map[string]string{}, index: map[uint64][]spelling{}}
}

// core makes a secret of capital letters and digits, so that it is part of what
// any escaping of a text around it yields.
func (s *secrets) core(name string) string {
	s.add(name, rand.Text())
	return s.cores[name]
}

// text makes a secret that every escaping changes.
func (s *secrets) text(name string) string { return "\"<é&\\ " + s.core(name) + "\n/+'>" }

// digits makes a secret that is a JSON number.
func (s *secrets) digits(name string) string {
	var b strings.Builder
	for _, c := range []byte(rand.Text()) {
		fmt.Fprint(&b, 1+c%9)
	}
	s.add(name, b.String())
	return b.String()
}

func (s *secrets) add(name, core string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cores[name] != "" {
		s.t.Fatalf("two secrets are named %q", name)
	}
	s.cores[name] = core
	for _, text := range forms(core) {
		first := encoding.NativeEndian.Uint64(text)
		s.index[first] = append(s.index[first], spelling{name, text})
	}
}

// Whoever leaks fragment+stride-1 characters of a secret in a row leaks a window of
// them, which is what is looked for.
const (
	fragment = 10
	stride   = 4
)

func windows(core string) (list [][]byte) {
	for at := 0; at+fragment <= len(core); at += stride {
		list = append(list, []byte(core[at:at+fragment]))
	}
	return append(list, []byte(core[len(core)-fragment:]))
}

// forms are the spellings of a secret's windows that are looked for, each of 8
// bytes or more.
func forms(core string) (list [][]byte) {
	for _, part := range windows(core) {
		list = append(list, part, bytes.ToLower(part), fmt.Appendf(nil, "%x", part), fmt.Appendf(nil, "%X", part),
			bytes.Trim(fmt.Append(nil, part), "[]"))
		list = append(list, inBase64(part)...)
	}
	return list
}

// inBase64 returns what base64 makes of a text wherever in the input it stands,
// without the characters at both ends that depend on what is around it.
func inBase64(part []byte) (list [][]byte) {
	for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			encoded := alphabet.EncodeToString(append(make([]byte, before), part...))
			first := (before*8 + 5) / 6
			last := (before + len(part)) * 8 / 6
			list = append(list, []byte(encoded[first:last]))
		}
	}
	return list
}

// search reports which secrets are in a text, but for those that may be there.
func (s *secrets) search(where string, text []byte, may ...string) {
	s.t.Helper()
	for _, name := range s.in(text) {
		if !slices.Contains(may, name) {
			s.t.Errorf("the secret %q is in %s", name, where)
		}
	}
}

// in names the secrets that a text holds in some form.
func (s *secrets) in(text []byte) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at := 0; at+8 <= len(text); at++ {
		for _, f := range s.index[encoding.NativeEndian.Uint64(text[at:])] {
			if bytes.HasPrefix(text[at:], f.text) && !slices.Contains(names, f.name) {
				names = append(names, f.name)
			}
		}
	}
	return names
}

// searchFiles searches the files below a directory.
func (s *secrets) searchFiles(dir string, may ...string) {
	s.t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || entry.Name() == "identity.txt" {
			return err
		}
		content, err := os.ReadFile(path)
		s.search("the file "+entry.Name(), content, may...)
		s.search("a file's name", []byte(path), may...)
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}

// searchProcess searches what others can see of a process, where the system has
// /proc.
func (s *secrets) searchProcess(what string, pid int, may ...string) {
	s.t.Helper()
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		s.t.Logf("processes cannot be looked at here: %v", err)
		return
	}
	for _, name := range []string{"cmdline", "environ", "comm"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			s.t.Error(err)
		}
		s.search(what+"'s "+name, content, may...)
	}
}

// eavesdropper searches every answer that passes, headers and all.
type eavesdropper struct {
	secrets *secrets
	may     []string // what the bodies may hold
}

func (e eavesdropper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := recorder.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	where := fmt.Sprintf("the answer %d of a %s", resp.StatusCode, req.Method)
	e.secrets.search(where, body, e.may...)
	for name, values := range resp.Header {
		e.secrets.search(where+", header "+name, []byte(strings.Join(values, "\n")))
	}
	return resp, nil
}

func TestSecretFormsAreFound(t *testing.T) {
	s := newSecrets(t)
	core := s.core("one")
	plain := []byte("some text before " + core + " and after")
	for _, text := range [][]byte{
		plain, plain[20:], []byte(hex.EncodeToString(plain)), fmt.Append(nil, plain), fmt.Appendf(nil, "%X", plain),
		[]byte(base64.StdEncoding.EncodeToString(plain)), []byte(base64.URLEncoding.EncodeToString(plain[1:])),
		[]byte(base64.StdEncoding.EncodeToString(plain[2:])), bytes.ToLower(plain), []byte(core[1 : fragment+stride]),
	} {
		if len(s.in(text)) != 1 {
			t.Error("a form of the secret is not found")
		}
	}
	if len(s.in([]byte("some text before "+rand.Text()+" and after"))) != 0 {
		t.Error("a secret is found where there is none")
	}
}
