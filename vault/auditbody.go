package vault

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sidevault/sidevault/envs"
)

// auditBody is an audit entry as the log holds it: compact JSON with the members
// in alphabetical order, so that whoever has the printed entry can make the
// hashed bytes from it again (docs/design/audit.md gives the recipe). Text in it
// comes from validated names only and holds no character that JSON escapes in
// more than one way.
type auditBody struct {
	Action       string         `json:"action"`
	Actor        Actor          `json:"actor"`
	CredentialID string         `json:"credential_id,omitempty"`
	Environment  *string        `json:"environment"`
	Metadata     map[string]any `json:"metadata,omitempty"`
	Name         string         `json:"name,omitempty"`
	Org          string         `json:"org"`
	Outcome      string         `json:"outcome"`
	Peer         string         `json:"peer,omitempty"`
	Realm        string         `json:"realm,omitempty"`
	RequestID    string         `json:"request_id,omitempty"`
	Source       string         `json:"source"`
	TargetID     string         `json:"target_id"`
	TargetType   string         `json:"target_type"`
	Time         string         `json:"time"`
	Version      uint64         `json:"version,omitempty"`

	read readNote // in the place of Metadata, when it is given
}

// readNote is the metadata of a read. There are many of them.
type readNote struct {
	given bool
	from  envs.Scope
	count int       // 0: the entry is of one read
	since time.Time // of the first of them
}

// usualEntry is more than most entries have, in bytes.
const usualEntry = 512

// entries are encoded one after the other into memory that they share.
type entries struct {
	time    string // of all of them
	room    []byte
	encoded [][]byte
}

// newEntries has room for n usual ones.
func newEntries(at time.Time, n int) *entries {
	return &entries{time: at.UTC().Format(TimeFormat), room: make([]byte, 0, n*usualEntry), encoded: make([][]byte, 0, n)}
}

func (e *entries) add(body *auditBody) (err error) {
	body.Time = e.time
	start := len(e.room)
	if e.room, err = body.encode(e.room); err == nil {
		e.encoded = append(e.encoded, e.room[start:len(e.room):len(e.room)])
	}
	return err
}

// encode appends the entry to to. It is written by hand, since every read has an entry or a
// part of one.
func (b *auditBody) encode(to []byte) ([]byte, error) {
	e := entryEncoder{b: append(to, '{')}
	e.text("action", b.Action, false)
	e.name("actor")
	e.b = append(e.b, '{')
	e.text("email", b.Actor.Email, false)
	e.text("id", b.Actor.ID, false)
	e.text("kind", b.Actor.Kind, false)
	e.text("name", b.Actor.Name, false)
	e.b = append(e.b, '}')
	e.text("credential_id", b.CredentialID, true)
	e.optional("environment", b.Environment)
	e.metadata(b)
	e.text("name", b.Name, true)
	e.text("org", b.Org, false)
	e.text("outcome", b.Outcome, false)
	e.text("peer", b.Peer, true)
	e.text("realm", b.Realm, true)
	e.text("request_id", b.RequestID, true)
	e.text("source", b.Source, false)
	e.text("target_id", b.TargetID, false)
	e.text("target_type", b.TargetType, false)
	e.text("time", b.Time, false)
	if b.Version != 0 {
		e.name("version")
		e.b = strconv.AppendUint(e.b, b.Version, 10)
	}
	if e.err != nil {
		return to, fmt.Errorf("encode an audit entry: %w", e.err)
	}
	return append(e.b, '}'), nil
}

// entryEncoder appends the members of objects.
type entryEncoder struct {
	b   []byte
	err error
}

func (e *entryEncoder) name(name string) {
	if e.b[len(e.b)-1] != '{' {
		e.b = append(e.b, ',')
	}
	e.b = append(e.b, '"')
	e.b = append(e.b, name...)
	e.b = append(e.b, '"', ':')
}

// text appends a member that is text; omit leaves out one that is empty.
func (e *entryEncoder) text(name, value string, omit bool) {
	if omit && value == "" {
		return
	}
	e.name(name)
	e.quote(value)
}

// quote replaces what is not UTF-8: a strange name is no reason to record nothing.
func (e *entryEncoder) quote(value string) { e.b, _ = jsontext.AppendQuote(e.b, value) }

func (e *entryEncoder) optional(name string, value *string) {
	if value != nil {
		e.text(name, *value, false)
		return
	}
	e.name(name)
	e.b = append(e.b, "null"...)
}

func (e *entryEncoder) metadata(b *auditBody) {
	switch {
	case b.read.given:
		e.name("metadata")
		e.b = append(e.b, '{')
		e.read(&b.read)
		e.b = append(e.b, '}')
	case len(b.Metadata) > 0:
		e.name("metadata")
		e.b = append(e.b, '{')
		for _, name := range slices.Sorted(maps.Keys(b.Metadata)) {
			e.value(name, b.Metadata[name])
		}
		e.b = append(e.b, '}')
	}
}

func (e *entryEncoder) read(r *readNote) {
	if r.count > 0 {
		e.name("count")
		e.b = strconv.AppendInt(e.b, int64(r.count), 10)
	}
	if r.from == envs.Shared {
		e.optional("resolvedFrom", nil)
	} else {
		e.text("resolvedFrom", string(r.from), false)
	}
	if r.count > 0 {
		e.name("since")
		e.b = append(r.since.AppendFormat(append(e.b, '"'), TimeFormat), '"')
	}
}

// value appends a member of any kind. What it holds is text of ours and names, as the
// rest of an entry, so nothing in it is escaped for HTML.
func (e *entryEncoder) value(name string, value any) {
	if text, ok := value.(string); ok {
		e.text(name, text, false)
		return
	}
	e.name(name)
	encoded, err := json.Marshal(value)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.b = append(e.b, encoded...)
}
