package vault_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// families are all that storage keeps, by the first segment of the key, and how what is
// put in the place of one is met: at the start, or by what reads it.
var families = map[string]string{
	"vault": "start", "org": "reads", "keyfile": "start", "keyinfo": "start", "rotate": "reads", "apikey": "reads", "entry": "reads",
	"live": "reads", "gone": "reads", "cred": "reads", "record": "reads", "usage": "reads", "outbox": "reads", "synced": "reads",
	"backup": "nothing", // is written for its revision alone
}

// hostile is a vault with a record of every family, as its storage has it.
type hostile struct {
	*fixture
	records map[string][]byte
	other   *seal.Key // of somebody else's
	control *seal.Key // which a host that shares the vault has
	deleted vault.ID
	random  *rand.Rand
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	p := &programs{}
	f := syncFixture(t, p, syncer("trustradius"))
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h := &hostile{fixture: f, records: map[string][]byte{}}
	f.set("sftp", "staging", "deleted")
	removed, err := f.Remove(ctx, f.admin, f.slot("sftp", "staging"), vault.RemoveOptions{})
	must(err)
	h.deleted = removed.Credential.ID
	f.set("sftp", "development", "one")
	f.set("sftp", "", "one")
	f.set("sftp", "preview", "one")
	f.set("salesforce", "production", "one")
	f.set("salesforce", "production", "two")
	f.syncOf("production", vault.SyncDone)
	p.answers(refusing("away"))
	_, err = f.Set(ctx, f.admin, f.slot("salesforce", "staging"), opaque("two"))
	wantKind(t, err, vault.ToolSetupFailed)
	_, err = f.Resolve(ctx, f.admin, f.slot("salesforce", "production"), vault.ResolveOptions{})
	must(err)
	_, err = f.Register(ctx, f.admin, vault.Registration{Key: "own"})
	must(err)
	_, err = f.Backup(ctx, f.admin, io.Discard, vault.BackupOptions{})
	must(err)
	h.leaveRotation()
	must(f.Close(ctx))
	for family := range families {
		for _, r := range f.stored(family) {
			h.records[r.Key] = r.Value
		}
	}
	h.other, err = seal.NewKey(seal.X25519)
	must(err)
	h.control, err = seal.Unwrap(h.records["keyfile/@control/0001"], f.config.Identities...)
	must(err)
	return h
}

// leaveRotation leaves a rotation half done: a record that no key opens keeps it from its
// end.
func (h *hostile) leaveRotation() {
	h.t.Helper()
	list := h.stored("record/")
	for _, r := range list {
		h.rewrite(r.Key, []byte("garbage"))
	}
	_, err := h.Rotate(h.t.Context(), "development", func(vault.Rotation) {})
	if len(h.stored("rotate/")) == 0 {
		h.t.Fatalf("no rotation is left: %v", err)
	}
	for _, r := range list {
		h.rewrite(r.Key, r.Value)
	}
}

// storage returns a storage of its own with one record replaced.
func (h *hostile) storage(t *testing.T, key string, value []byte) backends.Backend {
	t.Helper()
	b := memory.New()
	var batch backends.Batch
	commit := func() {
		if _, err := b.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		batch = backends.Batch{}
	}
	for _, k := range slices.Sorted(maps.Keys(h.records)) {
		stored := h.records[k]
		if k == key {
			stored = value
		}
		if batch.Changes = append(batch.Changes, backends.Put(k, 0, stored)); len(batch.Changes) == backends.MaxChanges {
			commit()
		}
	}
	commit()
	return b
}

// planted is what may stand in the place of a record: without the vault's keys nobody
// can make more than the first of these; a host that shares it can sign.
func (h *hostile) planted(key string) (forged, signed map[string][]byte) {
	good := h.records[key]
	noise := make([]byte, 1+h.random.IntN(2000))
	for i := range noise {
		noise[i] = byte(h.random.Uint32())
	}
	flipped := bytes.Clone(good)
	flipped[h.random.IntN(len(flipped))] ^= 1 << h.random.IntN(8)
	line, _, isDocument := bytes.Cut(good, []byte("\n"))
	forged = map[string][]byte{
		"nothing": {}, "random bytes": noise, "cut off": good[:h.random.IntN(len(good))], "a bit flipped": flipped, "more behind it": append(bytes.Clone(good), "x\n"...),
		"record of another place": h.elsewhere(key), "of another key": h.other.Sign(key, line), "unsigned": line,
		"for another place": h.control.Sign(key+"x", line), "text that ends at once": []byte("\n"), "deep JSON": []byte(strings.Repeat("[", 100_000)),
	}
	if !isDocument || !bytes.HasPrefix(good, []byte("{")) {
		return forged, nil
	}
	signed = map[string][]byte{}
	for _, doc := range []string{`{}`, `null`, `[]`, `"x"`, `{"version":18446744073709551615}`, `{"versions":[]}`, `{"id":"../..","slot":{}}`, `{"lease":{}}`, `{"from":9999,"to":-1}`} {
		signed["signed "+doc] = h.control.Sign(key, []byte(doc))
	}
	return forged, signed
}

// elsewhere returns a genuine record of the same family, or of another one.
func (h *hostile) elsewhere(key string) []byte {
	family, _, _ := strings.Cut(key, "/")
	for _, same := range []bool{true, false} {
		for _, k := range slices.Sorted(maps.Keys(h.records)) {
			if k != key && strings.HasPrefix(k, family+"/") == same && !bytes.Equal(h.records[k], h.records[key]) {
				return h.records[k]
			}
		}
	}
	h.t.Fatal("there is no other record")
	return nil
}

// TestHostileStorage puts everything that somebody could write in the place of one
// record of every family, and uses the vault: nothing panics, nothing is served of it,
// and what reads it is told that it is not genuine.
func TestHostileStorage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	h := newHostile(t)
	h.random = rand.New(rand.NewPCG(seed, 0))
	met := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(h.records)) {
		family, _, _ := strings.Cut(key, "/")
		met[family] = true
		forged, signed := h.planted(key)
		for name, value := range forged {
			h.check(t, key, name, value, families[family])
		}
		for name, value := range signed {
			h.check(t, key, name, value, "anything")
		}
	}
	for family := range families {
		if !met[family] {
			t.Errorf("storage has no record of the family %s", family)
		}
	}
}

func (h *hostile) check(t *testing.T, key, name string, value []byte, want string) {
	t.Helper()
	b := h.storage(t, key, value)
	defer b.Close()
	var failures counter
	cfg := h.config
	cfg.Backend, cfg.Metrics, cfg.Logger = b, &failures, slog.New(slog.DiscardHandler)
	v, err := vault.Open(t.Context(), cfg)
	if err != nil {
		if want == "reads" || want == "nothing" {
			t.Errorf("%s: %s: the vault does not open: %v", key, name, err)
		}
		return
	}
	told := h.use(t, v, key+": "+name)
	v.Close(context.Background())
	switch {
	case want == "start" && !strings.HasPrefix(key, "keyfile/"):
		t.Errorf("%s: %s: the vault opens", key, name)
	case want == "start" && told == 0:
		t.Errorf("%s: %s: the vault opens, and the key is missed by nobody", key, name)
	case want == "reads" && (told == 0 || failures.integrity.Load() == 0):
		t.Errorf("%s: %s: nothing says that it is not genuine (%d errors, %d counted)", key, name, told, failures.integrity.Load())
	case want == "nothing" && told > 0:
		t.Errorf("%s: %s: %d calls fail", key, name, told)
	}
}

// use calls everything that reads storage, and returns how often it was told of a record
// that is not genuine. No other failure of the vault's own may come.
func (h *hostile) use(t *testing.T, v *vault.Vault, what string) (told int) {
	t.Helper()
	ctx, c := t.Context(), h.admin
	try := func(call string, err error) {
		switch kind := vault.KindOf(err); {
		case err == nil:
		case kind == vault.Integrity, kind == vault.EnvironmentLocked:
			told++
		case kind == vault.Internal && !strings.Contains(what, ": signed "):
			t.Errorf("%s: %s: %v", what, call, err)
		}
	}
	_, err := v.Authenticate(ctx, h.init.Admin.Secret)
	try("Authenticate", err)
	_, err = v.AddKey(ctx, "default", vault.KeyInput{Name: "a", Environments: []string{"*"}, Integrations: []string{"*"}})
	try("AddKey", err)
	_, err = v.Keys(ctx, c)
	try("Keys", err)
	deleted := h.slot("sftp", "staging")
	slots := []vault.Slot{h.slot("salesforce", "production"), h.slot("salesforce", "staging"), h.slot("sftp", "development"), h.slot("sftp", "preview"), h.slot("sftp", ""), deleted}
	ids := []vault.ID{h.deleted, h.idOf("salesforce", "production"), h.idOf("salesforce", "staging"), h.idOf("sftp", "development"), h.idOf("sftp", "preview"), h.idOf("sftp", "@shared")}
	for _, id := range ids { // before a read adds to it
		_, err = v.Usage(ctx, c, vault.Address{ID: id})
		try("Usage", err)
	}
	_, err = v.Remove(ctx, c, deleted, vault.RemoveOptions{})
	try("Remove", err)
	for _, slot := range slots {
		h.useSlot(t, v, slot, try)
	}
	for _, id := range ids {
		at := vault.Address{ID: id}
		_, err = v.Get(ctx, c, at)
		try("Get", err)
		_, err = v.Versions(ctx, c, at)
		try("Versions", err)
		_, err = v.Restore(ctx, "default", id)
		try("Restore", err)
	}
	h.useSlot(t, v, deleted, try)
	_, err = v.Rollback(ctx, c, vault.Address{ID: ids[1]}, 1, 0)
	try("Rollback", err)
	h.useAll(t, v, try)
	return told
}

func (h *hostile) useAll(t *testing.T, v *vault.Vault, try func(string, error)) {
	t.Helper()
	ctx, c := t.Context(), h.admin
	_, _, err := v.List(ctx, c, vault.Filter{}, "", 100)
	try("List", err)
	_, err = v.Integrations(ctx, c, vault.IntegrationFilter{})
	try("Integrations", err)
	_, _, err = v.Syncs(ctx, c, vault.SyncFilter{}, "", 100)
	try("Syncs", err)
	_, err = v.RetrySyncs(ctx, c, vault.SyncFilter{})
	try("RetrySyncs", err)
	for _, scope := range []envs.Scope{"development", "production"} {
		_, err = v.Rotation(ctx, c, scope)
		try("Rotation", err)
	}
	_, err = v.Holders(ctx)
	try("Holders", err)
	_, err = v.Backup(ctx, c, io.Discard, vault.BackupOptions{})
	try("Backup", err)
	_, err = v.Purge(ctx, time.Now().Add(time.Hour), func(vault.Purged) {})
	try("Purge", err)
}

func (h *hostile) useSlot(t *testing.T, v *vault.Vault, slot vault.Slot, try func(string, error)) {
	t.Helper()
	ctx, c := t.Context(), h.admin
	got, err := v.Resolve(ctx, c, slot, vault.ResolveOptions{NoFallback: true})
	if err == nil {
		var fields seal.Fields
		fields, err = got.Fields()
		if value := fields["value"]; err == nil && !slices.ContainsFunc([]string{"deleted", "one", "two"}, func(s string) bool { return value.Equal(secret.New(s)) }) {
			t.Errorf("%s resolves to what was never set", slot)
		}
	}
	try("Resolve", err)
	_, err = v.Resolve(ctx, c, slot, vault.ResolveOptions{NoFallback: true, Version: 1})
	try("Resolve version 1", err)
	_, err = v.Details(ctx, c, slot, vault.ResolveOptions{})
	try("Details", err)
	_, err = v.Status(ctx, c, slot)
	try("Status", err)
	_, err = v.ExportRaw(ctx, "default", slot)
	try("ExportRaw", err)
}

// idOf returns the ID of what a slot held when the vault was whole.
func (h *hostile) idOf(integration, environment string) vault.ID {
	for key, value := range h.records {
		if strings.HasPrefix(key, "live/") && strings.Contains(key, "/"+integration+"/"+environment+"/") {
			_, after, _ := bytes.Cut(value, []byte(`"id":"`))
			id, _, _ := bytes.Cut(after, []byte(`"`))
			return vault.ID(id)
		}
	}
	h.t.Fatal("the slot held nothing")
	return ""
}

// counter counts integrity failures.
type counter struct{ integrity atomic.Int64 }

func (c *counter) IntegrityFailure()                 { c.integrity.Add(1) }
func (*counter) Operation(string, string)            {}
func (*counter) Synced(string, bool)                 {}
func (*counter) SyncsPending(string, int, time.Time) {}

// TestHostileKeyFiles replaces the age files of keys by such as an attacker can encrypt
// to the roots, whose recipients are public.
func TestHostileKeyFiles(t *testing.T) {
	f := newFixture(t, vault.Options{})
	root := f.config.Identities[0].(*age.X25519Identity).Recipient()
	for name, text := range map[string]string{
		"nothing": "", "no key": "hello", "half a key": "AGE-SECRET-KEY-1", "a script": "#!/bin/sh\nid\n", "a plugin's key": "AGE-PLUGIN-EVIL-1QQQQQQ\n",
		"key of another": newIdentity(t), "two keys": newIdentity(t) + newIdentity(t), "NUL": "\x00", "long": strings.Repeat("A", 1<<16),
	} {
		for _, scope := range []string{"@control", "@shared", "production"} {
			key := "keyfile/" + scope + "/0001"
			good := f.stored(key)[0].Value
			var file bytes.Buffer
			w, err := age.Encrypt(&file, root)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(w, text)
			w.Close()
			f.rewrite(key, file.Bytes())
			if v, err := vault.Open(t.Context(), f.config); err == nil {
				v.Close(context.Background())
				t.Errorf("%s as the key of %s: the vault opens", name, scope)
			} else if strings.Contains(err.Error(), "AGE-") {
				t.Errorf("%s as the key of %s: the error quotes it", name, scope)
			}
			f.rewrite(key, good)
		}
	}
	if v, err := vault.Open(t.Context(), f.config); err != nil {
		t.Error(err)
	} else {
		v.Close(context.Background())
	}
}

func newIdentity(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.String() + "\n"
}
