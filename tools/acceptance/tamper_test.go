package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	bolt "go.etcd.io/bbolt"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// revisionSize is what precedes a record's value in the file.
const revisionSize = 8

// raw is the file of a vault whose sidecar does not run, in the hands of someone
// who can write it and holds no key.
type raw struct {
	t  *testing.T
	tx *bolt.Tx
}

// tampering changes a vault's file.
func tampering(t *testing.T, v *sidecar.Vault, change func(raw)) {
	t.Helper()
	db, err := bolt.Open(v.File("vault.db"), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bolt.Tx) error {
		change(raw{t, tx})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (r raw) records() *bolt.Bucket { return r.tx.Bucket([]byte("records")) }

// key returns the only key of a record that matches.
func (r raw) key(pattern string) string {
	r.t.Helper()
	var found []string
	re := regexp.MustCompile("^" + pattern + "$")
	c := r.records().Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if re.Match(k) {
			found = append(found, string(k))
		}
	}
	if len(found) != 1 {
		r.t.Fatalf("%d records match %s", len(found), pattern)
	}
	return found[0]
}

func (r raw) value(key string) []byte {
	return bytes.Clone(r.records().Get([]byte(key))[revisionSize:])
}

func (r raw) put(key string, value []byte) {
	r.t.Helper()
	revision := make([]byte, revisionSize)
	if stored := r.records().Get([]byte(key)); stored != nil {
		copy(revision, stored)
	}
	if err := r.records().Put([]byte(key), append(revision, value...)); err != nil {
		r.t.Fatal(err)
	}
}

func (r raw) remove(key string) {
	r.t.Helper()
	if err := r.records().Delete([]byte(key)); err != nil {
		r.t.Fatal(err)
	}
}

// live is the key of the document of what a slot holds.
func (r raw) live(p place) string {
	r.t.Helper()
	return r.key("live/[^/]+/" + p.integration + "/" + p.environment + "/default")
}

// record is the key of the age file of what a slot holds.
func (r raw) record(p place) string {
	r.t.Helper()
	var doc struct{ ID string }
	if err := json.NewDecoder(bytes.NewReader(r.value(r.live(p)))).Decode(&doc); err != nil {
		r.t.Fatal(err)
	}
	return r.key("record/[^/]+/" + doc.ID + "/[0-9]+")
}

// plant puts a well-formed record of the attacker's in the place of the slot's,
// encrypted to the environment's recipient, which is public.
func (r raw) plant(p place) {
	r.t.Helper()
	key := r.record(p)
	part := strings.Split(key, "/")
	at := fmt.Sprintf(`{"org":%q,"integration":%q,"environment":%q,"name":"default","id":%q,"version":1}`,
		part[1], p.integration, p.environment, part[2])
	text := fmt.Sprintf(`{"place":%s,"fields":{"value":"planted"},"mac":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`, at)
	r.put(key, encrypt(r.t, r.recipient(p.environment), text))
}

func (r raw) recipient(environment string) age.Recipient {
	r.t.Helper()
	public := regexp.MustCompile(`age1[a-z0-9]+`).Find(r.value(r.key("keyinfo/" + environment + "/[0-9]+")))
	to, err := age.ParseX25519Recipient(string(public))
	if err != nil {
		r.t.Fatal(err)
	}
	return to
}

func encrypt(t *testing.T, to age.Recipient, text string) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// attack is something done to the file, and the slots whose credentials it hits.
type attack struct {
	name string
	hits []string
	do   func(r raw, hit []place)
}

func attacks() []attack {
	return []attack{
		{"two records swapped", []string{"salesforce", "slack"}, func(r raw, hit []place) {
			one, two := r.record(hit[0]), r.record(hit[1])
			a, b := r.value(one), r.value(two)
			r.put(one, b)
			r.put(two, a)
		}},
		{"a record copied over another", []string{"zoominfo"}, func(r raw, hit []place) {
			r.put(r.record(hit[0]), r.value(r.record(place{untouched, "production"})))
		}},
		{"a bit of a record flipped", []string{"telegram"}, func(r raw, hit []place) {
			value := r.value(r.record(hit[0]))
			value[len(value)-1] ^= 1
			r.put(r.record(hit[0]), value)
		}},
		{"a record planted", []string{"servicenow"}, func(r raw, hit []place) { r.plant(hit[0]) }},
		{"a record deleted", []string{"sharepoint"}, func(r raw, hit []place) { r.remove(r.record(hit[0])) }},
		{"a live document altered", []string{"weaviate"}, func(r raw, hit []place) {
			key := r.live(hit[0])
			r.put(key, bytes.Replace(r.value(key), []byte(`"version":1`), []byte(`"version":2`), 1))
		}},
		{"a live document moved here", []string{"trustradius"}, func(r raw, hit []place) {
			r.put(r.live(hit[0]), r.value(r.live(place{untouched, "production"})))
		}},
		{"a live document moved to an empty slot", []string{movedTo}, func(r raw, hit []place) {
			from := r.live(place{untouched, "production"})
			r.put(strings.Replace(from, "/"+untouched+"/", "/"+hit[0].integration+"/", 1), r.value(from))
		}},
	}
}

// The integration whose credential is left alone, and one without a credential.
const (
	untouched = "vectorize"
	movedTo   = "jira"
)

func TestTamperedStorageIsServedToNobody(t *testing.T) {
	t.Parallel()
	s := binary.Serve(t)
	for _, a := range append(attacks(), attack{hits: []string{untouched}}) {
		for _, integration := range a.hits {
			if integration != movedTo {
				s.Admin().Put(slot(integration, "production"), value("secret of "+integration)).Wants(http.StatusCreated)
			}
		}
	}
	small := newKey(s.Admin(), "user", []string{"staging"}, []string{untouched})
	s.Stop()
	tampering(t, s.Vault, func(r raw) {
		for _, a := range attacks() {
			a.do(r, inProduction(a.hits))
		}
		widen(r)
	})
	s = s.Vault.Start(t)
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			for _, integration := range a.hits {
				wantsIntegrityError(t, s, integration)
			}
		})
	}
	t.Run("the grant of an API key widened", func(t *testing.T) {
		before := integrityFailures(t, s)
		s.Client(small).For(t).Get(resolve(untouched, "production")).Fails(http.StatusInternalServerError, "INTEGRITY_ERROR")
		wantsCounted(t, s, before)
	})
	wantsSecret(t, s.Admin(), resolve(untouched, "production"), "secret of "+untouched, "production")
	s.Admin().Put(slot("slack", "production"), value("set again")).Wants(http.StatusOK)
	wantsSecret(t, s.Admin(), resolve("slack", "production"), "set again", "production")
}

func inProduction(integrations []string) (list []place) {
	for _, i := range integrations {
		list = append(list, place{i, "production"})
	}
	return list
}

// widen gives the API key of staging all environments.
func widen(r raw) {
	c := r.records().Cursor()
	for k, v := c.Seek([]byte("apikey/")); bytes.HasPrefix(k, []byte("apikey/")); k, v = c.Next() {
		if wide := bytes.Replace(v, []byte(`["staging"]`), []byte(`["production"]`), 1); !bytes.Equal(wide, v) {
			r.put(string(k), wide[revisionSize:])
			return
		}
	}
	r.t.Fatal("there is no API key of staging alone")
}

// wantsIntegrityError fails the test unless resolving is refused, without a value,
// counted, logged and audited.
func wantsIntegrityError(t *testing.T, s *sidecar.Sidecar, integration string) {
	t.Helper()
	before := integrityFailures(t, s)
	c := s.Admin().For(t)
	answer := c.Get(resolve(integration, "production"))
	f := answer.Fails(http.StatusInternalServerError, "INTEGRITY_ERROR")
	for _, secret := range []string{"secret of", "planted"} {
		if bytes.Contains(answer.Body, []byte(secret)) {
			t.Errorf("%s: the answer has a value", integration)
		}
	}
	wantsCounted(t, s, before)
	wantsLine(t, s, "a stored record fails its integrity check and is served to nobody", f.RequestID)
	entries := sidecar.Data[[]wire.AuditEntry](c.Get("/v1/audit?limit=500&outcome=integrity_error&integration=" + integration).Wants(http.StatusOK))
	isRead := func(e wire.AuditEntry) bool {
		return e.Action == "read_integration_credentials" && e.RequestID == f.RequestID && scope(e.Environment) == "production"
	}
	if !slices.ContainsFunc(entries, isRead) {
		t.Errorf("%s: the read is not in the audit log as an integrity_error", integration)
	}
}

func wantsCounted(t *testing.T, s *sidecar.Sidecar, before float64) {
	t.Helper()
	if after := integrityFailures(t, s); after <= before {
		t.Errorf("the metric of integrity failures stays at %v", after)
	}
}

var integrityRE = regexp.MustCompile(`(?m)^sidevault_integrity_failures_total (\S+)$`)

func integrityFailures(t *testing.T, s *sidecar.Sidecar) float64 {
	t.Helper()
	m := integrityRE.FindSubmatch(s.Client("").For(t).Get("/metrics").Wants(http.StatusOK).Body)
	if m == nil {
		t.Fatal("there is no metric of integrity failures")
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
