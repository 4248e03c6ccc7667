package guide

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// anything stands in what a document shows for what is different each time.
const anything = "..."

// compare returns an error unless what was printed is what the document shows. It does not
// quote what was printed, which may be a credential.
func (b Block) compare(printed string) error {
	switch b.Language {
	case "json":
		var want, got any
		if err := json.Unmarshal([]byte(b.Prints), &want); err != nil {
			return fmt.Errorf("what it shows is no JSON: %w", err)
		}
		if json.Unmarshal([]byte(printed), &got) != nil {
			return errors.New("what it printed is no JSON")
		}
		return same("the answer", want, got)
	case "text":
		return sameLines(b.Prints, printed)
	}
	return nil
}

// sameLines wants the same lines, but for the space between their words: columns are as
// wide as what is in them. A line of nothing but dots is any number of lines.
func sameLines(shown, printed string) error {
	want, got := lines(shown), lines(printed)
	at, skips := 0, false
	for _, line := range want {
		if line == anything {
			skips = true
			continue
		}
		for skips && at < len(got) && !matches(line, got[at]) {
			at++
		}
		if at >= len(got) || !matches(line, got[at]) {
			return fmt.Errorf("it does not print %q as its line %d of %d", line, at+1, len(got))
		}
		at, skips = at+1, false
	}
	if at < len(got) && !skips {
		return fmt.Errorf("it prints %d lines, and %d are shown", len(got), len(want))
	}
	return nil
}

func lines(text string) (all []string) {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			all = append(all, strings.Join(words, " "))
		}
	}
	return all
}

func matches(want, got string) bool {
	parts := strings.Split(want, anything)
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(got)
}

// same wants everything that is shown to be there. Members that are not shown may be
// there, too.
func same(at string, want, got any) error {
	switch want := want.(type) {
	case map[string]any:
		members, ok := got.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is no object", at)
		}
		for name, value := range want {
			member, ok := members[name]
			if !ok {
				return fmt.Errorf("%s has no %q", at, name)
			}
			if err := same(at+"."+name, value, member); err != nil {
				return err
			}
		}
		return nil
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Errorf("%s is no list of %d", at, len(want))
		}
		for i := range want {
			if err := same(fmt.Sprintf("%s[%d]", at, i), want[i], list[i]); err != nil {
				return err
			}
		}
		return nil
	case string:
		if text, ok := got.(string); !ok || !matches(want, text) {
			return fmt.Errorf("%s is not %q", at, want)
		}
		return nil
	}
	if want != got {
		return fmt.Errorf("%s is not %v", at, want)
	}
	return nil
}
