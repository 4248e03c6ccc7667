package rest

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

// appendResolved appends the body of a resolve: a wire.Envelope of a wire.Resolved, as
// the encoder of every other answer would write it. This one is written by hand, since it
// is the one that is asked for thousands of times a second, and since so the secret
// goes from the vault into the answer as it is.
// asked is the slot that was: the credential's but for its scope.
func appendResolved(b []byte, asked vault.Slot, r *vault.Resolved, at time.Time) []byte {
	c := r.Credential
	b = append(b, `{"success":true,"data":{"id":`...)
	b = appendText(b, string(c.ID))
	b = append(b, `,"integrationId":`...)
	b = appendText(b, asked.Integration)
	b = append(b, `,"environment":`...)
	b = appendScope(b, asked.Scope)
	b = append(b, `,"resolvedFrom":`...)
	b = appendScope(b, r.From)
	b = append(b, `,"name":`...)
	b = appendText(b, asked.Name)
	if c.AuthType != "" {
		b = append(b, `,"authType":`...)
		b = appendText(b, c.AuthType)
	}
	b = append(b, `,"version":`...)
	b = strconv.AppendUint(b, r.Version, 10)
	b = append(b, `,"updatedAt":`...)
	b = appendTime(b, c.UpdatedAt)
	if !c.ExpiresAt.IsZero() {
		b = append(b, `,"expiresAt":`...)
		b = appendTime(b, c.ExpiresAt)
	}
	b = append(b, ',')
	if fields := r.Secret.Reveal(); r.Opaque() {
		b = append(b, fields[1:len(fields)-1]...) // its one member is called value here, too
	} else {
		b = append(b, `"fields":`...)
		b = append(b, fields...)
	}
	b = append(b, `},"timestamp":`...)
	return append(appendTime(b, at), '}')
}

// resolvedSize is more than appendResolved writes besides the secret: a name of ours may
// take six bytes for each of its own.
const resolvedSize = 6*(vault.MaxIntegrationKey+vault.MaxName+3*64) + 512

// appendText appends a JSON string. The text was found to be UTF-8 when it was stored.
func appendText(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

func appendScope(b []byte, s envs.Scope) []byte {
	if s == envs.Shared {
		return append(b, "null"...)
	}
	return appendText(b, string(s))
}

func appendTime(b []byte, at time.Time) []byte {
	b, _ = wire.Time(at).AppendText(append(b, '"'))
	return append(b, '"')
}
