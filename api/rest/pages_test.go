package rest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
)

// paged are the lists that have pages, by path, each with filters that select three of
// what there is, and with some that select one which others follow.
var paged = map[string]struct{ three, one string }{
	"/integrations/credentials": {"integration=salesforce", "environment=production"},
	"/sync":                     {"plugin=tell", "plugin=tell&environment=production"},
	"/audit":                    {"action=set_integration_credentials", "action=set_integration_credentials&environment=staging"},
}

func TestLastPages(t *testing.T) { onEach(t, testLastPages) }

// A page that ends with the last of what there is has no cursor, also when it is full.
func testLastPages(t *testing.T, on storage) {
	p := new(programs)
	p.failed.Store(true)
	f := openFixture(t, on, Options{}, boundEntry{}, p)
	for _, environment := range []string{"development", "production", "staging"} {
		f.json("PUT", slotPath, fmt.Sprintf(`{"environment":%q,"value":"one"}`, environment), nil)
	}
	for _, r := range new(server).routes() {
		if !slices.Contains(r.query, "limit") {
			continue
		}
		list, known := paged[r.path]
		if !known {
			t.Errorf("nothing is known of the pages of %s", r.path)
		}
		for _, c := range []struct {
			filter string
			limit  int
			pages  []int
		}{{list.three, 3, []int{3}}, {list.three, 4, []int{3}}, {list.three, 2, []int{2, 1}}, {list.three, 1, []int{1, 1, 1}}, {list.one, 1, []int{1}}} {
			path := fmt.Sprintf("/v1%s?%s&limit=%d", r.path, c.filter, c.limit)
			if got := pagesOf(t, f, path); !slices.Equal(got, c.pages) {
				t.Errorf("%s has pages of %v, want %v", path, got, c.pages)
			}
		}
	}
}

// pagesOf returns how much is on each page of a list.
func pagesOf(t *testing.T, f *fixture, path string) (sizes []int) {
	t.Helper()
	for cursor := ""; len(sizes) < 10; {
		var page wire.Page[any]
		f.json("GET", path+cursor, "", &page)
		sizes = append(sizes, len(page.Data))
		if page.NextCursor == "" {
			return sizes
		}
		cursor = "&cursor=" + page.NextCursor
	}
	t.Errorf("%s does not end", path)
	return sizes
}
