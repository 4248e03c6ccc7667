package acceptance

import (
	"bytes"
	"crypto/sha256"
	encoding "encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// The entry that is tampered with, and where its parts are:
// prev (32) || hash (32) || body.
const (
	brokenEntry = 6
	hashAt      = 32
	bodyAt      = 64
)

// entryKey is the key of an entry: its number, which its hash covers too.
func entryKey(seq uint64) []byte { return encoding.BigEndian.AppendUint64(nil, seq) }

// altered returns an entry with another outcome.
func altered(t *testing.T, entry []byte) []byte {
	t.Helper()
	other := bytes.Replace(entry, []byte(`"outcome":"success"`), []byte(`"outcome":"forbade"`), 1)
	if bytes.Equal(other, entry) {
		t.Fatal("the entry has no outcome to alter")
	}
	return other
}

// rehashed returns an entry with a hash that fits its body.
func rehashed(seq uint64, entry []byte) []byte {
	sum := sha256.New()
	sum.Write([]byte("sidevault log v1\x00"))
	sum.Write(entryKey(seq))
	sum.Write(entry[:hashAt])
	sum.Write(entry[bodyAt:])
	return append(sum.Sum(bytes.Clone(entry[:hashAt])), entry[bodyAt:]...)
}

func TestTamperedAuditLogIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		broken uint64
		do     func(t *testing.T, log *bolt.Bucket, entry []byte) error
	}{
		"an entry altered": {brokenEntry, func(t *testing.T, log *bolt.Bucket, entry []byte) error {
			return log.Put(entryKey(brokenEntry), altered(t, entry))
		}},
		"an entry altered with its hash": {brokenEntry + 1, func(t *testing.T, log *bolt.Bucket, entry []byte) error {
			return log.Put(entryKey(brokenEntry), rehashed(brokenEntry, altered(t, entry)))
		}},
		"an entry removed": {brokenEntry, func(_ *testing.T, log *bolt.Bucket, _ []byte) error {
			return log.Delete(entryKey(brokenEntry))
		}},
		"an entry replaced by another": {brokenEntry, func(_ *testing.T, log *bolt.Bucket, _ []byte) error {
			return log.Put(entryKey(brokenEntry), bytes.Clone(log.Get(entryKey(brokenEntry-1))))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := auditedVault(t)
			tampering(t, v, func(r raw) {
				log := r.tx.Bucket([]byte("log"))
				if err := c.do(t, log, bytes.Clone(log.Get(entryKey(brokenEntry)))); err != nil {
					t.Fatal(err)
				}
			})
			wantsBroken(t, verifyOffline(t, v), c.broken)
			s := v.Start(t)
			wantsBroken(t, s.Run("", "audit", "verify"), c.broken)
			head := sidecar.Data[wire.AuditHead](s.Admin().Get("/v1/audit/head?verify=true").Wants(http.StatusOK))
			if head.Intact == nil || *head.Intact || head.BrokenAt != c.broken {
				t.Errorf("the head says broken at %d, want %d", head.BrokenAt, c.broken)
			}
			wantsSecret(t, s.Admin(), resolve("slack", ""), "4", "null")
		})
	}
}

// auditedVault returns a vault that is not served, with some entries in its log.
func auditedVault(t *testing.T) *sidecar.Vault {
	t.Helper()
	s := binary.Serve(t)
	for i := range 5 {
		s.Admin().Put(slot("slack", ""), value(fmt.Sprint(i)))
	}
	s.Stop()
	o := verifyOffline(t, s.Vault)
	if o.Code != 0 || !strings.Contains(o.Stdout, "intact") {
		t.Fatalf("audit verify ended with %d before anything was done: %s%s", o.Code, o.Stdout, o.Stderr)
	}
	return s.Vault
}

// verifyOffline runs audit verify on a vault that is not served.
func verifyOffline(t *testing.T, v *sidecar.Vault) sidecar.Outcome {
	t.Helper()
	return binary.Run(t, "", nil, append([]string{"audit", "verify"}, v.Args()...)...)
}

func wantsBroken(t *testing.T, o sidecar.Outcome, at uint64) {
	t.Helper()
	said := fmt.Sprintf("broken at entry %d", at)
	if o.Code != 1 || !strings.Contains(o.Stdout, said) || !strings.Contains(o.Stderr, said) {
		t.Errorf("audit verify ended with %d and does not say %q:\n%s%s", o.Code, said, o.Stdout, o.Stderr)
	}
}
