// Package wire is the JSON of Sidevault's HTTP API, shared by the server and its
// clients. It holds data types and their encoding, and no behaviour; api/openapi.yaml
// is the contract that they follow.
package wire

import (
	"errors"
	"time"
)

// Headers of requests and responses, in the canonical form in which net/http keeps them.
const (
	HeaderRequestID = "X-Request-Id"
	HeaderTenantID  = "X-Tenantid"
	HeaderRealmName = "Realmname"
	HeaderLastEvent = "Last-Event-Id"
	// HeaderStale has the seconds for which an answer may have been out of date.
	HeaderStale = "Sidevault-Stale"
)

// What the User-Agent of Sidevault's own clients begins with: those of the command
// line and of its MCP server over standard input and output.
const (
	CLIAgent = "sidevault-cli/"
	MCPAgent = "sidevault-mcp/"
)

// Time is a time on the wire: RFC 3339, UTC, milliseconds.
type Time time.Time

// TimeFormat is the layout of a Time.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// MarshalText prints the time in TimeFormat.
func (t Time) MarshalText() ([]byte, error) { return t.AppendText(nil) }

// AppendText appends the time in TimeFormat. RFC 3339 without a fraction is what package
// time writes without reading a layout, and every answer has a time or two.
func (t Time) AppendText(b []byte) ([]byte, error) {
	at := time.Time(t).UTC()
	b = at.AppendFormat(b, time.RFC3339)
	milli := at.Nanosecond() / int(time.Millisecond)
	return append(b[:len(b)-1], '.', byte('0'+milli/100), byte('0'+milli/10%10), byte('0'+milli%10), 'Z'), nil
}

// UnmarshalText reads any RFC 3339 time.
func (t *Time) UnmarshalText(b []byte) error {
	at, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return errors.New("not an RFC 3339 time, as in 2026-04-29T14:00:00Z")
	}
	*t = Time(at)
	return nil
}

// Optional returns nil for the zero time, else a pointer to the time.
func Optional(at time.Time) *Time {
	if at.IsZero() {
		return nil
	}
	t := Time(at)
	return &t
}

// Envelope is the body of every answer that succeeded.
type Envelope[T any] struct {
	Success   bool   `json:"success"`
	Message   string `json:"message,omitempty"`
	Data      T      `json:"data"`
	Timestamp Time   `json:"timestamp"`
}

// SlotEnvelope is the envelope of the routes that change a slot.
type SlotEnvelope[T any] struct {
	Success       bool    `json:"success"`
	Message       string  `json:"message,omitempty"`
	IntegrationID string  `json:"integrationId"`
	Environment   *string `json:"environment"`
	Data          T       `json:"data"`
	Timestamp     Time    `json:"timestamp"`
}

// Page is the envelope of a list. NextCursor is "" on the last page.
type Page[T any] struct {
	Success    bool   `json:"success"`
	Data       []T    `json:"data"`
	NextCursor string `json:"nextCursor,omitempty"`
	Timestamp  Time   `json:"timestamp"`
}

// Failure is the body of every answer that did not succeed. Detail comes with
// status 422 and with what validators say of single fields. Data comes where
// something was changed nevertheless: a SetResult, or after a deletion a Removal.
type Failure struct {
	Success   bool     `json:"success"`
	Error     Error    `json:"error"`
	Detail    []Detail `json:"detail,omitempty"`
	Data      any      `json:"data,omitempty"`
	RequestID string   `json:"request_id"`
	Timestamp Time     `json:"timestamp"`
}

// Error says what went wrong: a code of the API's list, a sentence, and often a
// second one with what to do.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Details string `json:"details,omitempty"`
}

// Detail is what is wrong with one part of a request's body.
type Detail struct {
	Loc  []string `json:"loc"`
	Msg  string   `json:"msg"`
	Type string   `json:"type"`
}

// Actor is who did something.
type Actor struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Email string `json:"email"`
}
