package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/sidevault/sidevault/plugins/internal/egress"
	"github.com/sidevault/sidevault/plugins/sdk"
)

// judge reads the answer. The body is looked at, and repeated to nobody: providers
// quote what they were sent.
func (p *plan) judge(r *http.Response) (sdk.ValidateResult, error) {
	defer r.Body.Close()
	switch {
	case hasStatus(p.Invalid, r.StatusCode):
		return p.reject(r.StatusCode), nil
	case !hasStatus(p.Valid, r.StatusCode):
		return sdk.ValidateResult{}, fmt.Errorf("the provider answered %d, which does not say whether the credential works", r.StatusCode)
	case p.Expect == nil:
		return sdk.Accept(), nil
	}
	body, whole, err := egress.Body(r)
	if err != nil {
		return sdk.ValidateResult{}, fmt.Errorf("the provider %s", egress.Explain(err))
	}
	met, err := p.Expect.met(body, whole)
	if err != nil {
		return sdk.ValidateResult{}, fmt.Errorf("the provider answered %d, %w", r.StatusCode, err)
	}
	if !met {
		return p.reject(r.StatusCode), nil
	}
	return sdk.Accept(), nil
}

func (p *plan) reject(code int) sdk.ValidateResult {
	if p.Message != "" {
		return sdk.Reject("%s", p.Message)
	}
	return sdk.Reject("the provider does not accept this credential (it answered %d)", code)
}

// met reports whether a body says what is expected. An error means that it cannot be
// told.
func (e *expect) met(body []byte, whole bool) (bool, error) {
	if e.Pointer == "" {
		found := bytes.Contains(body, []byte(e.Contains))
		if !found && !whole {
			return false, errors.New("and more than is read")
		}
		return found, nil
	}
	if !whole {
		return false, errors.New("and more than is read")
	}
	doc, err := decode(body)
	if err != nil {
		return false, errors.New("but not in JSON")
	}
	at, ok := follow(doc, e.Pointer)
	if !ok {
		return false, fmt.Errorf("but with nothing at %s", e.Pointer)
	}
	if e.Contains != "" {
		text, isText := at.(string)
		return isText && strings.Contains(text, e.Contains), nil
	}
	want, err := decode(e.Equals)
	return err == nil && reflect.DeepEqual(at, want), nil
}

func decode(b []byte) (doc any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err = d.Decode(&doc); err == nil && d.More() {
		err = errors.New("more than one document")
	}
	return doc, err
}

// follow finds a place in a document by a JSON pointer (RFC 6901).
func follow(doc any, pointer string) (any, bool) {
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for _, token := range strings.Split(pointer, "/")[1:] {
		token = unescape.Replace(token)
		switch d := doc.(type) {
		case map[string]any:
			at, ok := d[token]
			if !ok {
				return nil, false
			}
			doc = at
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(d) {
				return nil, false
			}
			doc = d[i]
		default:
			return nil, false
		}
	}
	return doc, true
}
