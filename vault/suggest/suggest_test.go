package suggest_test

import (
	"testing"

	"github.com/sidevault/sidevault/vault/suggest"
)

func TestNearest(t *testing.T) {
	known := []string{"development", "staging", "production", "salesforce", "docs"}
	for word, want := range map[string]string{
		"prod": "production", "PRODUCTION": "production", "dev": "development", "stagin": "staging", "stagnig": "staging",
		"salesfroce": "salesforce", "salesforce_v2": "salesforce", "dosc": "docs", "qa": "", "": "", "x": "",
	} {
		if got := suggest.Nearest(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
