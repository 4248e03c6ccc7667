package backup_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/vault/backup"
	"github.com/sidevault/sidevault/vault/seal"
)

// sample is a small backup with lines of every kind.
type sample struct {
	t       testing.TB
	root    *age.X25519Identity
	control *seal.Key
	items   []backup.Item
	file    []byte
}

func newSample(t *testing.T) *sample {
	t.Helper()
	root, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	control, err := seal.NewKey(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	s := &sample{t: t, root: root, control: control}
	s.write(3000)
	return s
}

// write writes the backup; large is how long one of its values is.
func (s *sample) write(large int) {
	s.t.Helper()
	s.items = nil
	t, root, control := s.t, s.root, s.control
	var file bytes.Buffer
	header := backup.Header{Vault: "v", Control: control.Recipient(), CreatedAt: time.Now(), Head: backup.Head{Revision: 3}}
	w, err := backup.NewWriter(&file, header, root.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range []string{"", "text", "two\nlines <&> \u2028 \" \\", "\x00\xff binary", "\ufffd", strings.Repeat("x", large)} {
		s.add(backup.Item{Key: fmt.Sprintf("key/%d", i), Value: []byte(value)}, w.Record(fmt.Sprintf("key/%d", i), []byte(value)))
	}
	s.add(backup.Item{Key: "key/1", Changed: true, Value: []byte("new")}, w.Change("key/1", []byte("new")))
	s.add(backup.Item{Key: "key/2", Changed: true, Gone: true}, w.Change("key/2", nil))
	s.add(backup.Item{Key: "aaa", Changed: true, Value: []byte{}}, w.Change("aaa", []byte{}))
	var head backends.Head
	for i := range 5 {
		e := head.Append(fmt.Appendf(nil, `{"n":%d}`, i))
		s.add(backup.Item{Entry: e}, w.Entry(e))
	}
	if _, err := w.End(head, control); err != nil {
		t.Fatal(err)
	}
	s.file = file.Bytes()
}

func (s *sample) add(i backup.Item, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	s.items = append(s.items, i)
}

// read reads a whole backup and verifies it.
func (s *sample) read(file []byte) (items []backup.Item, err error) {
	r, err := backup.NewReader(bytes.NewReader(file), s.root)
	if err != nil {
		return nil, err
	}
	for {
		i, err := r.Next()
		if errors.Is(err, io.EOF) {
			return items, r.Verify(s.control)
		}
		if err != nil {
			return nil, err
		}
		items = append(items, i)
	}
}

func (s *sample) plain() string {
	s.t.Helper()
	r, err := age.Decrypt(bytes.NewReader(s.file), s.root)
	if err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// encrypt is what anyone can do who has seen the plaintext: the recipient is public.
func (s *sample) encrypt(text string) []byte {
	s.t.Helper()
	var file bytes.Buffer
	w, err := age.Encrypt(&file, s.root.Recipient())
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	return file.Bytes()
}

func TestReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	items, err := s.read(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if len(items) != len(s.items) {
		t.Fatalf("%d items, want %d", len(items), len(s.items))
	}
	for i, want := range s.items {
		got := items[i]
		if got.Key != want.Key || !bytes.Equal(got.Value, want.Value) || got.Changed != want.Changed || got.Gone != want.Gone ||
			got.Entry.Seq != want.Entry.Seq || got.Entry.Hash != want.Entry.Hash || !bytes.Equal(got.Entry.Body, want.Entry.Body) {
			t.Errorf("item %d is %+v, want %+v", i, got, want)
		}
	}
}

// refused fails the test unless the error is one of the package's, on one line.
func refused(t testing.TB, what string, err error) {
	t.Helper()
	if !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNotBackup) && !errors.Is(err, backup.ErrNoIdentity) {
		t.Errorf("%s: the error is %v", what, err)
	} else if strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
		t.Errorf("%s: the error is no clear line: %v", what, err)
	}
}

// One bit of every byte is flipped, which one the seed decides.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newSample(t)
	s.write(200)
	for i := range s.file {
		file, bit := bytes.Clone(s.file), random.IntN(8)
		file[i] ^= 1 << bit
		_, err := s.read(file)
		refused(t, fmt.Sprintf("bit %d of byte %d", bit, i), err)
	}
}

// age encrypts in chunks: none of them can go, come twice, change places, or come from
// another backup for the same recipients.
func TestRearrangedChunksAreRefused(t *testing.T) {
	t.Parallel()
	const chunk = 64<<10 + 16
	s, other := newSample(t), newSample(t)
	s.write(4 * chunk)
	other.root, other.control = s.root, s.control
	other.write(4 * chunk)
	first := len(s.file) % chunk // the header, and what the last chunk lacks of a whole one
	if _, err := s.read(s.file); err != nil || len(s.file) < 4*chunk {
		t.Fatalf("%d bytes, %v", len(s.file), err)
	}
	header := bytes.Index(s.file, []byte("\n--- ")) + 1
	header += bytes.IndexByte(s.file[header:], '\n') + 1 + 16 // the MAC's line, and the nonce
	at := func(of []byte, n int) []byte { return of[header+n*chunk : header+(n+1)*chunk] }
	tail := s.file[header+2*chunk:]
	for name, file := range map[string][]byte{
		"as it was":                slices.Concat(s.file[:header], at(s.file, 0), at(s.file, 1), tail),
		"two chunks swapped":       slices.Concat(s.file[:header], at(s.file, 1), at(s.file, 0), tail),
		"a chunk missing":          slices.Concat(s.file[:header], at(s.file, 1), tail),
		"a chunk twice":            slices.Concat(s.file[:header], at(s.file, 0), at(s.file, 0), at(s.file, 1), tail),
		"a chunk of another":       slices.Concat(s.file[:header], at(other.file, 0), at(s.file, 1), tail),
		"another's header":         slices.Concat(other.file[:header], s.file[header:]),
		"cut between chunks":       s.file[:header+2*chunk],
		"two backups in a file":    slices.Concat(s.file, other.file),
		"bytes moved to the front": slices.Concat(s.file[first:], s.file[:first]),
	} {
		_, err := s.read(file)
		if name == "as it was" {
			if err != nil {
				t.Fatalf("the test takes the file apart in the wrong places: %v", err)
			}
			continue
		}
		refused(t, name, err)
	}
}

func TestTruncationIsRefused(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	s.write(200)
	for n := range s.file {
		_, err := s.read(s.file[:n])
		refused(t, fmt.Sprintf("%d of %d bytes", n, len(s.file)), err)
	}
	_, err := s.read(append(bytes.Clone(s.file), 'x'))
	refused(t, "a byte more", err)
}

var sumRE = regexp.MustCompile(`"sha256":"[0-9a-f]{64}"`)

// resum makes the sum in the last line fit again.
func resum(lines []string) {
	n := len(lines) - 2
	sum := sha256.Sum256([]byte(strings.Join(lines[:n], "")))
	lines[n] = sumRE.ReplaceAllString(lines[n], `"sha256":"`+hex.EncodeToString(sum[:])+`"`)
}

// Whoever can open the backup can make another of it, but not one that passes.
func TestAlteredPlaintextIsRefused(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	whole := strings.SplitAfter(strings.TrimSuffix(s.plain(), "\n"), "\n")
	whole[len(whole)-1] += "\n"
	if _, err := s.read(s.encrypt(strings.Join(whole, ""))); err != nil {
		t.Fatalf("as it was: %v", err)
	}
	for name, alter := range map[string]func(l []string) []string{
		"two records swapped": func(l []string) []string { l[1], l[2] = l[2], l[1]; return l },
		"values swapped": func(l []string) []string {
			l[2] = strings.Replace(l[2], `"text":"text"`, `"text":"another"`, 1)
			return l
		},
		"a record missing": func(l []string) []string { return append(l[:1:1], l[2:]...) },
		"a record repeated at the end": func(l []string) []string {
			return slices.Insert(l, len(l)-2, l[2])
		},
		"another's value": func(l []string) []string { // of the same length
			l[4], l[5] = strings.Replace(l[4], "key/3", "key/4", 1), strings.Replace(l[5], "key/4", "key/3", 1)
			return append(l[:4:4], append([]string{l[5], l[4]}, l[6:]...)...)
		},
		"a longer log":            func(l []string) []string { return slices.Insert(l, len(l)-2, l[len(l)-3]) },
		"a record twice":          func(l []string) []string { return append(append(l[:2:2], l[1]), l[2:]...) },
		"a change missing":        func(l []string) []string { return append(l[:7:7], l[8:]...) },
		"a change before records": func(l []string) []string { l[6], l[7] = l[7], l[6]; return l },
		"two entries swapped":     func(l []string) []string { l[10], l[11] = l[11], l[10]; return l },
		"an entry missing":        func(l []string) []string { return append(l[:10:10], l[11:]...) },
		"an entry altered": func(l []string) []string {
			l[11] = strings.Replace(l[11], "n", "m", 1)
			return l
		},
		"another vault's header": func(l []string) []string { l[0] = strings.Replace(l[0], `"vault":"v"`, `"vault":"w"`, 1); return l },
		"a member more":          func(l []string) []string { l[3] = strings.Replace(l[3], "{", `{"more":1,`, 1); return l },
		"a line more":            func(l []string) []string { return append(l, "{}\n") },
		"without the signature":  func(l []string) []string { return l[:len(l)-1] },
		"without the end":        func(l []string) []string { return l[:len(l)-2] },
		"without a newline": func(l []string) []string {
			l[len(l)-1] = strings.TrimSuffix(l[len(l)-1], "\n")
			return l
		},
		"nothing":   func([]string) []string { return nil },
		"not lines": func([]string) []string { return []string{"-----BEGIN"} },
	} {
		lines := alter(append([]string{}, whole...))
		_, err := s.read(s.encrypt(strings.Join(lines, "")))
		refused(t, name, err)
		if len(lines) > 3 && strings.HasPrefix(lines[len(lines)-2], `{"end"`) {
			resum(lines)
			_, err := s.read(s.encrypt(strings.Join(lines, "")))
			refused(t, name+", with another sum", err)
		}
	}
}

func TestNewerFormat(t *testing.T) {
	t.Parallel()
	s := newSample(t)
	newer := strings.Replace(s.plain(), `{"backup":{"format":1,`, `{"backup":{"format":2,`, 1)
	if _, err := s.read(s.encrypt(newer)); !errors.Is(err, backup.ErrNewer) {
		t.Errorf("the error is %v", err)
	}
}
