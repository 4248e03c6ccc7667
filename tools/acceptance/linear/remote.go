package linear

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/backends"
	served "github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// RunRemote is Run for sidecars that are served, with caches: clients use them over
// HTTP while disturb, when not nil, harms their storage until its context ends.
func RunRemote(t *testing.T, clients []*served.Client, disturb func(context.Context), o Options) {
	t.Helper()
	o.Cached, o.Sidecars = true, len(clients)
	list := make([]sidecar, len(clients))
	for n, c := range clients {
		list[n] = remote{c}
	}
	perform(t, list, disturb, o.complete())
}

// remote is a sidecar that is served.
type remote struct{ *served.Client }

const root = "/v1/integrations/salesforce/credentials?name="

func (r remote) perform(_ context.Context, op *operation) (outcome, error) {
	var answer *served.Answer
	var err error
	switch op.kind {
	case opSet:
		answer, err = r.Try(http.MethodPut, root+op.name(), map[string]any{"value": op.value})
	case opCreate:
		answer, err = r.Try(http.MethodPost, "/v1/credentials", map[string]any{"integrationId": "salesforce", "name": op.name(), "value": op.value})
	case opRemove:
		answer, err = r.Try(http.MethodDelete, root+op.name(), nil)
	case opResolve:
		answer, err = r.Try(http.MethodGet, "/v1/credentials/salesforce?fallback=false&name="+op.name(), nil)
	}
	if err != nil {
		return "", fmt.Errorf("a sidecar does not answer: %w", err)
	}
	if answer.Status >= http.StatusMultipleChoices {
		return refusal(op, answer)
	}
	return wasDone, learn(op, answer)
}

// learn notes what a success says.
func learn(op *operation, answer *served.Answer) error {
	if tag := answer.Header.Get("ETag"); tag != "" {
		revision, err := strconv.ParseUint(strings.Trim(tag, `"`), 10, 64)
		if err != nil {
			return fmt.Errorf("the ETag is %s", tag)
		}
		op.revision = backends.Revision(revision)
	}
	var body struct {
		Data struct {
			Version uint64
			Value   string
		}
	}
	if err := json.Unmarshal(answer.Body, &body); err != nil {
		return err
	}
	op.created, op.version = answer.Status == http.StatusCreated, body.Data.Version
	if op.kind == opResolve {
		op.value = body.Data.Value
	}
	return nil
}

// refusal says what a failure means.
func refusal(op *operation, answer *served.Answer) (outcome, error) {
	var f wire.Failure
	if err := json.Unmarshal(answer.Body, &f); err != nil {
		return "", err
	}
	switch f.Error.Code {
	case "CREDENTIAL_NOT_FOUND":
		return wasNone, nil
	case "CREDENTIAL_ALREADY_DELETED":
		return wasGone, nil
	case "CREDENTIAL_EXISTS":
		return wasTaken, nil
	case "BACKEND_UNAVAILABLE":
		if op.kind != opResolve && strings.Contains(f.Error.Details, "whole or not at all") {
			return wasUnknown, nil
		}
		return wasNotDone, nil
	}
	return "", fmt.Errorf("status %d, %s: %s", answer.Status, f.Error.Code, f.Error.Message)
}
