package acceptance

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// history is what clients tried and were told, and what the audit log says that
// became of it. Whatever was acknowledged has happened; what was cut off has
// happened whole or not at all; nothing else has.
type history struct {
	t *testing.T

	mu      sync.Mutex
	clock   uint64
	efforts map[string]*effort

	// From the audit log, as far as it was read.
	seq   uint64
	done  []*effort // what changed something, in order
	slots map[place]*occupant
	gone  map[string]bool // IDs of deleted credentials
	wrote map[string]*effort

	outages                  bool // requests may be refused because storage is away
	refused, cut, cutButDone int
}

// occupant is a credential in its slot.
type occupant struct {
	id      string
	version uint64
}

func newHistory(t *testing.T) *history {
	return &history{
		t: t, efforts: map[string]*effort{}, slots: map[place]*occupant{},
		gone: map[string]bool{}, wrote: map[string]*effort{},
	}
}

func (h *history) tick() uint64 {
	h.clock++
	return h.clock
}

// attempt makes an effort and reports whether it was answered.
func (h *history) attempt(c *sidecar.Client, e *effort) bool {
	h.mu.Lock()
	h.efforts[e.id] = e
	e.began = h.tick()
	h.mu.Unlock()
	err := e.send(c)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil && !e.unconfirmed {
		e.ended = h.tick()
		switch {
		case h.outages && e.status == http.StatusServiceUnavailable:
			h.refused++
		case !e.expected():
			h.t.Errorf("%s of %s answered %d", e.id, e.place, e.status)
		}
		return true
	}
	h.cut++
	return err == nil
}

// wantsEfforts says what was done, and fails the test when that is too little to tell
// anything.
func (h *history) wantsEfforts() {
	h.t.Helper()
	h.t.Logf("%d efforts, %d refused, %d cut off or unconfirmed, of which %d were carried out; %d changes",
		len(h.efforts), h.refused, h.cut, h.cutButDone, len(h.done))
	if len(h.done) < 50 {
		h.t.Errorf("only %d changes were made", len(h.done))
	}
}

// expected reports whether the answer is one of those that the load can get.
func (e *effort) expected() bool {
	switch e.verb {
	case setting:
		return e.status == http.StatusCreated || e.status == http.StatusOK
	case removing:
		return e.status == http.StatusOK || e.status == http.StatusConflict || e.status == http.StatusNotFound
	default:
		return e.status == http.StatusOK || e.status == http.StatusNotFound
	}
}

func version(credential string, n uint64) string { return fmt.Sprintf("%s version %d", credential, n) }

// check holds a sidecar that has just been started to the history.
func (h *history) check(c *sidecar.Client) {
	h.t.Helper()
	for _, entry := range h.fresh(c) {
		h.replay(entry)
	}
	h.checkAnswers()
	h.checkOrder()
	configured := map[string][]string{}
	for _, integration := range loadIntegrations {
		for _, environment := range loadEnvironments {
			p := place{integration, environment}
			if h.checkSlot(c, p) {
				configured[integration] = append(configured[integration], environment)
			}
		}
	}
	h.checkList(c, configured)
}

// fresh returns the audit entries of the load that were not read before, oldest
// first.
func (h *history) fresh(c *sidecar.Client) (entries []wire.AuditEntry) {
	h.t.Helper()
	next := h.seq
	for e := range auditPages(c, "limit=500") {
		if e.Seq <= h.seq {
			break
		}
		next = max(next, e.Seq)
		entries = append(entries, e)
	}
	h.seq = next
	slices.Reverse(entries)
	return entries
}

// replay applies an audit entry to what the slots hold.
func (h *history) replay(entry wire.AuditEntry) {
	h.t.Helper()
	change := entry.Action == "set_integration_credentials" || entry.Action == "remove_integration_credentials"
	if !change || entry.Outcome != "success" || !slices.Contains(loadIntegrations, entry.TargetID) {
		return
	}
	e := h.efforts[entry.RequestID]
	switch {
	case e == nil || e.seq != 0 || e.ended != 0 && e.status >= http.StatusMultipleChoices:
		h.t.Errorf("audit entry %d is of no effort that can have succeeded, or is its second", entry.Seq)
		return
	case e.ended == 0:
		h.cutButDone++
	case entry.CredentialID != e.credential || e.verb == setting && entry.Version != e.version:
		h.t.Errorf("%s was told another credential or version than audit entry %d has", e.id, entry.Seq)
	}
	e.seq, e.credential, e.version = entry.Seq, entry.CredentialID, entry.Version
	h.done = append(h.done, e)
	if e.verb == removing {
		h.remove(entry, e)
	} else {
		h.set(entry, e)
	}
}

func (h *history) remove(entry wire.AuditEntry, e *effort) {
	h.t.Helper()
	held := h.slots[e.place]
	if held == nil || held.id != entry.CredentialID || entry.Metadata["wasNoop"] != false {
		h.t.Errorf("audit entry %d removes what %s does not hold", entry.Seq, e.place)
	}
	h.gone[entry.CredentialID] = true
	delete(h.slots, e.place)
}

func (h *history) set(entry wire.AuditEntry, e *effort) {
	h.t.Helper()
	held := h.slots[e.place]
	if entry.Metadata["wasUpdate"] != (held != nil) {
		h.t.Errorf("audit entry %d: wasUpdate is %v at %s", entry.Seq, entry.Metadata["wasUpdate"], e.place)
	}
	if held == nil {
		held = &occupant{id: entry.CredentialID}
		h.slots[e.place] = held
	}
	held.version++
	if held.id != entry.CredentialID || held.version != entry.Version || h.gone[held.id] {
		h.t.Errorf("audit entry %d: %s comes after version %d of %s", entry.Seq, version(entry.CredentialID, entry.Version), held.version-1, held.id)
	}
	h.wrote[version(entry.CredentialID, entry.Version)] = e
}

// checkAnswers holds every acknowledged change, and every value that was served,
// to the audit log.
func (h *history) checkAnswers() {
	h.t.Helper()
	for _, e := range h.efforts {
		acknowledged := e.ended != 0 && e.status < http.StatusMultipleChoices
		switch {
		case !acknowledged:
		case e.verb != reading && e.seq == 0:
			h.t.Errorf("%s was acknowledged and is not in the audit log", e.id)
		case e.verb == reading:
			h.checkServed(e)
		}
	}
}

// checkServed holds a value that was served to the effort that set it.
func (h *history) checkServed(e *effort) {
	h.t.Helper()
	writer := h.wrote[version(e.credential, e.version)]
	if writer == nil || writer.place != e.place || !maps.Equal(writer.fields, e.fields) {
		h.t.Errorf("%s was served %s, which nobody set so", e.id, version(e.credential, e.version))
	}
}

// checkOrder: what was acknowledged before something else began comes first.
func (h *history) checkOrder() {
	h.t.Helper()
	earliest := uint64(math.MaxUint64)
	for _, e := range slices.Backward(h.done) {
		if earliest < e.began {
			h.t.Errorf("audit entry %d comes before one that had ended when it began", e.seq)
		}
		if e.ended != 0 {
			earliest = min(earliest, e.ended)
		}
	}
}

// checkSlot holds what a slot holds to the history, and reports whether it holds
// anything.
func (h *history) checkSlot(c *sidecar.Client, p place) bool {
	h.t.Helper()
	status := sidecar.Data[wire.SlotStatus](c.Get(slot(p.integration, p.environment)).Wants(http.StatusOK))
	held := h.slots[p]
	if held == nil {
		if status.Credential != nil {
			h.t.Errorf("%s holds a credential that the audit log does not have", p)
		}
		c.Get(ownResolve(p)).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
		return false
	}
	if status.Credential == nil || status.Credential.ID != held.id || status.Credential.Version != held.version {
		h.t.Errorf("%s does not hold %s", p, version(held.id, held.version))
		return true
	}
	if current := h.checkValue(c, p, 0); current != held.version {
		h.t.Errorf("%s resolves to version %d, not %d", p, current, held.version)
	}
	if kept := held.version - min(held.version, 23); held.version > 1 {
		h.checkValue(c, p, kept+(held.version-kept+1)/2)
	}
	h.checkVersions(c, p, held)
	return true
}

// checkVersions: those that are kept are the last ones, without a gap.
func (h *history) checkVersions(c *sidecar.Client, p place, held *occupant) {
	h.t.Helper()
	versions := sidecar.Data[[]wire.Version](c.Get("/v1/credentials/" + p.integration + "/" + held.id + "/versions").Wants(http.StatusOK))
	want := held.version
	for _, v := range versions {
		if v.Version != want {
			h.t.Errorf("%s has version %d where %d is due", p, v.Version, want)
		}
		want--
	}
	if len(versions) != int(min(held.version, 24)) {
		h.t.Errorf("%s has %d versions after %d sets", p, len(versions), held.version)
	}
}

// checkValue holds a version's value, 0 for the current one, to the effort that set it,
// and returns which version it is.
func (h *history) checkValue(c *sidecar.Client, p place, n uint64) uint64 {
	h.t.Helper()
	path := ownResolve(p)
	if n != 0 {
		path += fmt.Sprintf("&version=%d", n)
	}
	r := sidecar.Data[wire.Resolved](c.Get(path).Wants(http.StatusOK))
	h.checkServed(&effort{id: "a read after the start", place: p, credential: r.ID, version: r.Version, fields: revealed(r)})
	return r.Version
}

func (h *history) checkList(c *sidecar.Client, configured map[string][]string) {
	h.t.Helper()
	got := map[string][]string{}
	for _, i := range sidecar.Data[[]wire.Integration](c.Get("/v1/integrations?configured=true").Wants(http.StatusOK)) {
		if !slices.Contains(loadIntegrations, i.ID) {
			continue
		}
		for _, at := range i.ConfiguredIn {
			environment := ""
			if at != nil {
				environment = *at
			}
			got[i.ID] = append(got[i.ID], environment)
		}
		slices.Sort(got[i.ID])
	}
	if diff := cmp.Diff(configured, got); diff != "" {
		h.t.Errorf("where credentials are listed (-want +got):\n%s", diff)
	}
}
