package acceptance

import (
	"fmt"
	"iter"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

const crowd = 50

// together calls f from crowd goroutines that start at once, and returns the
// answers.
func together(t *testing.T, f func(i int) (*sidecar.Answer, error)) []*sidecar.Answer {
	t.Helper()
	answers := make([]*sidecar.Answer, crowd)
	errs := make([]error, crowd)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range crowd {
		wg.Go(func() {
			<-start
			answers[i], errs[i] = f(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return answers
}

func statuses(answers []*sidecar.Answer) map[int]int {
	count := map[int]int{}
	for _, a := range answers {
		count[a.Status]++
	}
	return count
}

// auditOf returns the audit entries of an action, newest first.
func auditOf(c *sidecar.Client, action string) []wire.AuditEntry {
	return slices.Collect(auditPages(c, "limit=500&action="+action))
}

// auditPages yields audit entries, newest first, and asks for a page when it is
// reached.
func auditPages(c *sidecar.Client, query string) iter.Seq[wire.AuditEntry] {
	return func(yield func(wire.AuditEntry) bool) {
		for cursor := ""; ; {
			var page wire.Page[wire.AuditEntry]
			c.Get("/v1/audit?" + query + cursor).Wants(http.StatusOK).Into(&page)
			for _, e := range page.Data {
				if !yield(e) {
					return
				}
			}
			if page.NextCursor == "" {
				return
			}
			cursor = "&cursor=" + page.NextCursor
		}
	}
}

func TestConcurrentSetsAndDeletes(t *testing.T) { onEach(t, testConcurrentSetsAndDeletes) }

func testConcurrentSetsAndDeletes(t *testing.T, on *sidecar.Binary) {
	c := on.Serve(t).Admin()
	sets := together(t, func(i int) (*sidecar.Answer, error) {
		return c.Try(http.MethodPut, slot("slack", "staging"), value(fmt.Sprintf("value %d", i)))
	})
	if got := statuses(sets); got[http.StatusCreated] != 1 || got[http.StatusOK] != crowd-1 {
		t.Errorf("%d sets of an empty slot answered %v", crowd, got)
	}
	checkVersions(t, sets)
	checkFlag(t, auditOf(c, "set_integration_credentials"), "wasUpdate")

	deletes := together(t, func(int) (*sidecar.Answer, error) {
		return c.Try(http.MethodDelete, slot("slack", "staging"), nil)
	})
	if got := statuses(deletes); got[http.StatusOK] != 1 || got[http.StatusConflict] != crowd-1 {
		t.Errorf("%d deletes of one slot answered %v", crowd, got)
	}
	checkFlag(t, auditOf(c, "remove_integration_credentials"), "wasNoop")
	head := sidecar.Data[wire.AuditHead](c.Get("/v1/audit/head?verify=true").Wants(http.StatusOK))
	if head.Intact == nil || !*head.Intact {
		t.Error("the audit log's chain is broken")
	}
}

func checkVersions(t *testing.T, sets []*sidecar.Answer) {
	t.Helper()
	var versions []uint64
	ids := map[string]bool{}
	for _, a := range sets {
		r := sidecar.Data[wire.SetResult](a)
		versions = append(versions, r.Version)
		ids[r.ID] = true
	}
	slices.Sort(versions)
	for i, v := range versions {
		if v != uint64(i+1) {
			t.Fatalf("the versions are %v", versions)
		}
	}
	if len(ids) != 1 {
		t.Errorf("the sets made %d credentials", len(ids))
	}
}

// checkFlag fails the test unless there is an entry of each member of the crowd,
// and the flag is false in one alone.
func checkFlag(t *testing.T, entries []wire.AuditEntry, flag string) {
	t.Helper()
	first := 0
	for _, e := range entries {
		if e.Metadata[flag] == false {
			first++
		}
	}
	if len(entries) != crowd || first != 1 {
		t.Errorf("%d audit entries, and %d of them say %s: false", len(entries), first, flag)
	}
}
