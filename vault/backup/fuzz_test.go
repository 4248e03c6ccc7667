package backup_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/vault/backup"
	"github.com/sidevault/sidevault/vault/seal"
)

// The keys in testdata are of nothing but the backup beside them.
const (
	rootFile    = "testdata/root.txt"
	controlFile = "testdata/control.txt"
	backupFile  = "testdata/format1.age"
)

func fixture(t testing.TB) *sample {
	t.Helper()
	s := &sample{t: t}
	ids, err := age.ParseIdentities(bytes.NewReader(load(t, rootFile)))
	if err != nil {
		t.Fatal(err)
	}
	s.root = ids[0].(*age.X25519Identity)
	if s.control, err = seal.ParseKey(load(t, controlFile)); err != nil {
		t.Fatal(err)
	}
	s.file = load(t, backupFile)
	return s
}

func load(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A backup of the first version of the format can be read for good.
func TestFormat1(t *testing.T) {
	t.Parallel()
	s := fixture(t)
	items, err := s.read(s.file)
	if err != nil || len(items) != 14 {
		t.Errorf("%d items, %v", len(items), err)
	}
}

// FuzzRead reads any bytes as a backup, and any text as the plaintext of one, which
// everyone can encrypt: what is accepted is what was written, and the rest is refused in
// one line.
func FuzzRead(f *testing.F) {
	s := fixture(f)
	genuine := s.plain()
	f.Add(true, s.file)
	f.Add(false, []byte(genuine))
	f.Fuzz(func(t *testing.T, file bool, data []byte) {
		s := &sample{t: t, root: s.root, control: s.control}
		s.file = data
		if !file {
			s.file = s.encrypt(string(data))
		}
		_, err := s.read(s.file)
		switch {
		case err == nil && s.plain() != genuine:
			t.Error("what nobody has signed is accepted")
		case errors.Is(err, backup.ErrNewer) && !strings.Contains(err.Error(), "\n"):
		case err != nil:
			refused(t, "it", err)
		}
	})
}
