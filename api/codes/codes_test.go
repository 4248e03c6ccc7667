package codes

import (
	"testing"

	"github.com/sidevault/sidevault/vault"
)

func TestEveryKindHasAStatus(t *testing.T) {
	for _, k := range vault.Kinds() {
		if Status(k) < 400 || k.String() == "" {
			t.Errorf("kind %d (%s) has no status", k, k)
		}
	}
	if len(statuses) != len(vault.Kinds()) {
		t.Errorf("%d statuses for %d kinds", len(statuses), len(vault.Kinds()))
	}
}
