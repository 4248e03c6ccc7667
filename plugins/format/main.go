// Command sidevault-validator-format is a validator that looks at a credential without
// asking anybody: lengths, prefixes, patterns, well-known formats and JSON Schemas, from
// the catalog. It does no input or output, and says what is wrong with a field, never
// what is in it.
package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sidevault/sidevault/plugins/internal/release"
	"github.com/sidevault/sidevault/plugins/sdk"
)

func main() {
	sdk.ServeValidator(validator{}, sdk.Info{
		Name: "format", Version: release.Version(),
		Description: "Checks lengths, prefixes, patterns, formats and JSON Schemas of fields.",
	})
}

type validator struct{}

// Validate looks at every field that the configuration names. All that is wrong is
// said, the fields in the order of their names.
func (validator) Validate(_ context.Context, r sdk.ValidateRequest) (sdk.ValidateResult, error) {
	rules, err := compile(r.Config)
	if err != nil {
		return sdk.ValidateResult{}, err
	}
	wrong := map[string]string{}
	for _, name := range rules.required {
		if r.Fields[name].Len() == 0 {
			wrong[name] = "is required"
		}
	}
	for _, rule := range rules.fields {
		value, given := r.Fields[rule.name]
		if _, missing := wrong[rule.name]; given && !missing {
			if found := rule.look(value.Reveal()); found != "" {
				wrong[rule.name] = found
			}
		}
	}
	return answer(wrong), nil
}

// look returns what is wrong with a text.
func (r rule) look(text string) string {
	var found []string
	for _, check := range r.checks {
		if s := check(text); s != "" {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 0:
		return ""
	case r.message != "":
		return r.message
	case strings.TrimSpace(text) != text:
		found = append(found, "has white space around it")
	}
	return strings.Join(found, "; ")
}

func answer(wrong map[string]string) sdk.ValidateResult {
	if len(wrong) == 0 {
		return sdk.Accept()
	}
	var names []string
	for name := range wrong {
		names = append(names, name)
	}
	slices.Sort(names)
	what := "field"
	if len(names) > 1 {
		what = "fields"
	}
	result := sdk.Reject("%s", fmt.Sprintf("the format is wrong in the %s %s", what, strings.Join(names, ", ")))
	for _, name := range names {
		result = result.Field(name, "%s", wrong[name])
	}
	return result
}
