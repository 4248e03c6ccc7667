package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/vault/secret"
)

const canary = "canary-5f1e"

type holder struct {
	Exported   secret.Value
	unexported secret.Value
	Pointer    *secret.Value
	List       []secret.Value
	Map        map[string]secret.Value
	any        any
}

func containers() []any {
	v := secret.New(canary)
	h := holder{v, v, &v, []secret.Value{v}, map[string]secret.Value{"k": v}, v}
	b := secret.Hold([]byte(canary))
	type bytesHolder struct {
		Exported   secret.Bytes
		unexported secret.Bytes
	}
	hb := bytesHolder{b, b}
	return []any{b, &b, hb, &hb, []any{b, hb}, fmt.Errorf("wrapped %v", b), v, &v, h, &h, []any{v, &v, h}, [1]secret.Value{v}, map[string]any{"h": h}, struct{ h *holder }{&h}, fmt.Errorf("wrapped %v", v)}
}

func TestNoVerbShowsIt(t *testing.T) {
	for _, verb := range strings.Split("v +v #v s q x X d o b c e f g p t U T", " ") {
		for _, c := range containers() {
			if s := fmt.Sprintf("%"+verb, c); strings.Contains(s, canary) || strings.Contains(s, fmt.Sprintf("%x", canary)) || strings.Contains(s, fmt.Sprint([]byte(canary))) {
				t.Errorf("%%%s of a %T shows the secret", verb, c)
			}
		}
	}
}

func TestNoEncoderShowsIt(t *testing.T) {
	for _, c := range containers() {
		var out bytes.Buffer
		json.NewEncoder(&out).Encode(c)
		xml.NewEncoder(&out).Encode(c)
		gob.NewEncoder(&out).Encode(c)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "c", c)
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "c", c)
		if strings.Contains(out.String(), canary) {
			t.Errorf("an encoder shows the secret in a %T", c)
		}
	}
}

func TestValue(t *testing.T) {
	v := secret.New(canary)
	if v.Reveal() != canary || v.Len() != len(canary) {
		t.Error("the value is not what was given")
	}
	if !v.Equal(secret.New(canary)) || v.Equal(secret.New(canary+"x")) || v.Equal(secret.Value{}) || !(secret.Value{}).Equal(secret.New("")) {
		t.Error("Equal is wrong")
	}
	var read secret.Value
	if err := json.Unmarshal([]byte(`"`+canary+`"`), &read); err != nil || !read.Equal(v) {
		t.Error("a value cannot be read from JSON")
	}
}
