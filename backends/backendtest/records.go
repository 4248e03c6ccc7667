package backendtest

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/sidevault/sidevault/backends"
)

func testEmpty(u *subject) {
	if h := u.head(); h != (backends.Head{}) {
		u.Errorf("the head of empty storage is %v", h)
	}
	u.expectNone("a")
	if all := u.all("", 10); len(all) != 0 {
		u.Errorf("empty storage lists %d records", len(all))
	}
	if log := u.chain(10); len(log) != 0 {
		u.Errorf("empty storage has %d log entries", len(log))
	}
}

func testPutGet(u *subject) {
	first := u.commit(backends.Put("a", 0, []byte("one")), backends.Put("b", 0, nil))
	if first == 0 {
		u.Error("Commit returned revision 0")
	}
	u.expect("a", "one", first)
	u.expect("b", "", first)
	u.expectNone("c")
	u.expectNone("A")

	second := u.commit(backends.Put("a", first, []byte("two")))
	if second <= first {
		u.Errorf("revision %d came after %d", second, first)
	}
	u.expect("a", "two", second)
	u.expect("b", "", first)

	third := u.commit(backends.Put("a", second, []byte("two")))
	u.expect("a", "two", third)
	if third <= second {
		u.Errorf("putting the same value again: revision %d came after %d", third, second)
	}
	if h := u.head(); h.Revision != third {
		u.Errorf("the head is at revision %d, want %d", h.Revision, third)
	}
}

func testDelete(u *subject) {
	put := u.commit(backends.Put("a", 0, []byte("one")), backends.Put("b", 0, []byte("kept")))
	gone := u.commit(backends.Delete("a", put))
	u.expectNone("a")
	u.expect("b", "kept", put)
	if h := u.head(); h.Revision != gone || gone <= put {
		u.Errorf("deleted at %d after %d, the head is at %d", gone, put, h.Revision)
	}
	for _, at := range []backends.Revision{put, gone} {
		u.refuse(backends.ErrConflict, batch(backends.Delete("a", at)))
		u.refuse(backends.ErrConflict, batch(backends.Put("a", at, nil)))
	}
	again := u.commit(backends.Put("a", 0, []byte("two")))
	if again <= gone {
		u.Errorf("put again at %d, deleted at %d", again, gone)
	}
	u.expect("a", "two", again)
	u.refuse(backends.ErrConflict, batch(backends.Delete("a", put)))
}

func testCheck(u *subject) {
	put := u.commit(backends.Put("a", 0, []byte("one")))
	other := u.commit(backends.Check("a", put), backends.Check("none", 0), backends.Put("b", 0, nil))
	u.expect("a", "one", put)
	u.expectNone("none")

	alone := u.commit(backends.Check("a", put))
	if alone <= other {
		u.Errorf("a batch of checks alone has revision %d after %d", alone, other)
	}
	u.expect("a", "one", put)

	u.refuse(backends.ErrConflict, batch(backends.Check("a", 0)))
	u.refuse(backends.ErrConflict, batch(backends.Check("a", other)))
	u.refuse(backends.ErrConflict, batch(backends.Check("none", put)))
	u.refuse(backends.ErrConflict, batch(backends.Put("c", 0, nil), backends.Check("a", 0)))
	u.expectNone("c")
}

// testRefused puts the failing change at each place of a batch that is otherwise
// good, and looks for anything of it.
func testRefused(u *subject) {
	at := u.commit(backends.Put("old", 0, []byte("kept")), backends.Put("gone", 0, []byte("kept")))
	wrong := []backends.Change{
		backends.Put("old", 0, []byte("lost")), backends.Put("old", at+1, []byte("lost")),
		backends.Put("old", math.MaxInt64, []byte("lost")), backends.Delete("old", at+1),
		backends.Put("none", at, nil), backends.Delete("none", at),
		backends.Check("old", 0), backends.Check("none", at),
	}
	for _, w := range wrong {
		for place := range 3 {
			changes := []backends.Change{backends.Put("new", 0, []byte("lost")), backends.Delete("gone", at), w}
			changes[place], changes[2] = changes[2], changes[place]
			u.refuse(backends.ErrConflict, backends.Batch{Changes: changes, Entries: [][]byte{[]byte("lost")}})
		}
	}
	u.expect("old", "kept", at)
	u.expect("gone", "kept", at)
	u.expectNone("new")
	u.expectNone("none")
	if all := u.all("", 100); len(all) != 2 {
		u.Errorf("%d records are left, want 2", len(all))
	}
	if log := u.chain(10); len(log) != 0 {
		u.Errorf("refused batches left %d log entries", len(log))
	}
}

func testValues(u *subject) {
	random := rand.NewChaCha8([32]byte{byte(u.suite.Seed)})
	var at backends.Revision
	for _, size := range []int{0, 1, 255, 256, 4095, 4096, 4097, 65536, 1 << 19, backends.MaxValue} {
		value := make([]byte, size)
		random.Read(value)
		at = u.commit(backends.Put("v", at, value))
		u.expect("v", string(value), at)
	}
	var every []byte
	for c := range 256 {
		every = append(every, byte(c))
	}
	for _, value := range [][]byte{every, []byte("\x00"), bytes.Repeat([]byte{0}, 5000), []byte("\xff\xfe"), []byte(`\x41\\'"`)} {
		at = u.commitBatch(backends.Batch{Changes: []backends.Change{backends.Put("v", at, value)}, Entries: [][]byte{value}})
		u.expect("v", string(value), at)
		log := u.chain(100)
		if got := log[len(log)-1].Body; !bytes.Equal(got, value) {
			u.Errorf("a log entry came back as %q, want %q", abridge(got), abridge(value))
		}
	}
}

// testOwnership overwrites what was handed in and what was handed out.
func testOwnership(u *subject) {
	value, body := []byte("value"), []byte("body")
	b := backends.Batch{Changes: []backends.Change{backends.Put("a", 0, value)}, Entries: [][]byte{body}}
	at := u.commitBatch(b)
	copy(value, "XXXXX")
	copy(body, "XXXX")
	b.Changes[0] = backends.Put("other", 0, nil)
	b.Entries[0] = nil
	u.expect("a", "value", at)

	for range 2 {
		r, err := u.Get(u.Context(), "a")
		if err != nil || string(r.Value) != "value" {
			u.Fatalf("Get = %q, %v", r.Value, err)
		}
		scribble(r.Value)
		for _, r := range u.all("", 10) {
			if string(r.Value) != "value" {
				u.Fatalf("List = %q", r.Value)
			}
			scribble(r.Value)
		}
		for _, e := range u.chain(10) {
			if string(e.Body) != "body" {
				u.Fatalf("Log = %q", e.Body)
			}
			scribble(e.Body)
		}
	}
	u.expect("a", "value", at)
	u.chain(10)
}

// scribble overwrites the slice and what an append would reach.
func scribble(s []byte) {
	s = s[:cap(s)]
	for i := range s {
		s[i] = 'X'
	}
}

func testInvalidKeys(u *subject) {
	long := strings.Repeat("k", backends.MaxKey)
	at := u.commit(backends.Put(long, 0, []byte("longest")))
	u.expect(long, "longest", at)
	for _, key := range []string{"", long + "k", "a\x00b", "\x00", "a\xff", "\xc3", "\xed\xa0\x80"} {
		if _, err := u.Get(u.Context(), key); !isInvalid(err) {
			u.Errorf("Get(%.20q): got %v, want %v", key, err, backends.ErrInvalid)
		}
		for _, c := range []backends.Change{backends.Put(key, 0, nil), backends.Delete(key, 1), backends.Check(key, 0)} {
			u.refuse(backends.ErrInvalid, batch(c))
			u.refuse(backends.ErrInvalid, batch(backends.Put("good", 0, nil), c))
		}
	}
	u.expectNone("good")
}

func testInvalidBatches(u *subject) {
	var many []backends.Change
	for i := range backends.MaxChanges + 1 {
		many = append(many, backends.Put(keyOf(i), 0, nil))
	}
	big := make([]byte, backends.MaxValue+1)
	for name, b := range map[string]backends.Batch{
		"empty":            {},
		"one key twice":    batch(backends.Put("a", 0, nil), backends.Check("a", 0)),
		"too many changes": batch(many...),
		"too many entries": {Entries: bytes.SplitAfter(bytes.Repeat([]byte("e"), backends.MaxEntries+1), nil)},
		"an empty entry":   {Changes: many[:1], Entries: [][]byte{{}}},
		"a long entry":     {Changes: many[:1], Entries: [][]byte{big}},
		"a long value":     batch(many[0], backends.Put("a", 0, big)),
		"too long in all":  {Changes: []backends.Change{backends.Put("a", 0, big[1:])}, Entries: [][]byte{big[:backends.MaxBatch-backends.MaxValue+1]}},
		"no operation":     batch(backends.Change{Key: "a"}),
		"unknown":          batch(backends.Change{Op: backends.OpCheck + 1, Key: "a"}),
		"delete of none":   batch(backends.Delete("a", 0)),
		"check with value": batch(backends.Change{Op: backends.OpCheck, Key: "a", Value: []byte("x")}),
	} {
		before := u.head()
		if _, err := u.Commit(u.Context(), b); !isInvalid(err) {
			u.Errorf("%s: got %v, want %v", name, err, backends.ErrInvalid)
		}
		if u.head() != before {
			u.Errorf("%s: the head moved", name)
		}
	}
	if all := u.all("", 10); len(all) != 0 {
		u.Errorf("invalid batches left %d records", len(all))
	}
}

func testInvalidLimits(u *subject) {
	u.commitBatch(backends.Batch{Changes: []backends.Change{backends.Put("a", 0, nil)}, Entries: [][]byte{[]byte("e")}})
	for _, limit := range []int{0, -1, math.MinInt, backends.MaxPage + 1, math.MaxInt} {
		if _, err := u.List(u.Context(), "", "", limit); !isInvalid(err) {
			u.Errorf("List with limit %d: got %v, want %v", limit, err, backends.ErrInvalid)
		}
		if _, err := u.Log(u.Context(), 0, limit); !isInvalid(err) {
			u.Errorf("Log with limit %d: got %v, want %v", limit, err, backends.ErrInvalid)
		}
	}
	for _, limit := range []int{1, backends.MaxPage} {
		if page, err := u.List(u.Context(), "", "", limit); err != nil || len(page) != 1 {
			u.Errorf("List with limit %d: %d records, %v", limit, len(page), err)
		}
		if page, err := u.Log(u.Context(), 0, limit); err != nil || len(page) != 1 {
			u.Errorf("Log with limit %d: %d entries, %v", limit, len(page), err)
		}
	}
}

// testLargestBatch reaches every limit at once.
func testLargestBatch(u *subject) {
	var b backends.Batch
	room := backends.MaxBatch / (backends.MaxChanges + backends.MaxEntries)
	pad := strings.Repeat("p", backends.MaxKey-len(keyOf(0)))
	for i := range backends.MaxChanges {
		b.Changes = append(b.Changes, backends.Put(pad+keyOf(i), 0, bytes.Repeat([]byte{byte(i)}, room)))
	}
	for i := range backends.MaxEntries {
		b.Entries = append(b.Entries, bytes.Repeat([]byte{byte(i)}, room))
	}
	at := u.commitBatch(b)
	for _, c := range b.Changes {
		u.expect(c.Key, string(c.Value), at)
	}
	for i, e := range u.chain(backends.MaxPage) {
		if !bytes.Equal(e.Body, b.Entries[i]) {
			u.Errorf("entry %d came back as %q", e.Seq, abridge(e.Body))
		}
	}
	spare := make([]byte, backends.MaxBatch-backends.MaxValue)
	u.commitBatch(backends.Batch{
		Changes: []backends.Change{backends.Put("a", 0, make([]byte, backends.MaxValue))},
		Entries: [][]byte{spare},
	})
}
