package acceptance

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
	"github.com/sidevault/sidevault/tools/acceptance/syncfault"
)

// onFailingDisk returns the program on a disk whose synchronizations fail as a test
// says.
func onFailingDisk(t *testing.T) (*sidecar.Binary, *syncfault.Disk) {
	t.Helper()
	disk := syncfault.New(t, binary.Path())
	return binary.At(disk.Path), disk
}

// TestFailedSync: a change whose synchronization fails is refused, and so is every one
// after it, while reads go on; when the disk is sound again, so do changes, without a
// restart.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	on, disk := onFailingDisk(t)
	s := on.Serve(t)
	c := s.Admin()
	c.Put(slot("slack", "staging"), value("kept")).Wants(http.StatusCreated)
	disk.Fail(func() bool { return true })
	for range 3 {
		answer := c.Put(slot("slack", "staging"), value("lost"))
		f := answer.Fails(http.StatusServiceUnavailable, "BACKEND_UNAVAILABLE")
		if !strings.Contains(f.Error.Details, "nothing was changed") || answer.Header.Get("Retry-After") == "" {
			t.Errorf("the refusal does not say that nothing was changed and when to try again: %+v", f.Error)
		}
		wantsSecret(t, c, resolve("slack", "staging"), "kept", "staging")
	}
	until(t, "the log says what is wrong", func() bool { return strings.Contains(s.Log(), "the disk did not keep what was written") })
	disk.Fail(nil)
	back := until(t, "a change on a sound disk", func() bool {
		answer, err := c.Try(http.MethodPut, slot("slack", "staging"), value("new"))
		return err == nil && answer.Status == http.StatusOK
	})
	t.Logf("a change succeeds %v after the disk is sound", back)
	s.Kill()
	c = s.Vault.Start(t).Admin()
	wantsSecret(t, c, resolve("slack", "staging"), "new", "staging")
	c.Get("/v1/audit/head?verify=true").Wants(http.StatusOK)
}

// TestFailingSyncsLoseNothing has some synchronizations fail, those of pages and those of
// the pointers to them, under load, and kills the sidecar.
func TestFailingSyncsLoseNothing(t *testing.T) {
	t.Parallel()
	on, disk := onFailingDisk(t)
	v := on.Init(t)
	h, random := newHistory(t), seeded(t)
	h.outages = true
	for round := range torturous(3, 20) {
		s := v.Start(t, "--keep-versions", "24")
		h.check(s.Admin())
		load(s, h, random, fmt.Sprintf("r%d", round), func(s *sidecar.Sidecar) {
			disk.Fail(func() bool { return rand.IntN(10) == 0 })
			time.Sleep(time.Duration(500+random.IntN(1500)) * time.Millisecond)
			s.Kill()
			disk.Fail(nil)
		})
	}
	s := v.Start(t, "--keep-versions", "24")
	h.check(s.Admin())
	h.wantsEfforts()
	t.Logf("%d synchronizations failed", disk.Failed())
	if disk.Failed() == 0 || h.refused == 0 {
		t.Error("no change met a synchronization that failed")
	}
	if o := s.Run("", "audit", "verify"); o.Code != 0 || !strings.Contains(o.Stdout, "intact") {
		t.Errorf("audit verify ended with %d: %s%s", o.Code, o.Stdout, o.Stderr)
	}
}
