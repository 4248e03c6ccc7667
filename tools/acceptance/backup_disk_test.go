package acceptance

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// fillUp leaves so many bytes on the disk of a directory, and returns what takes it up.
func fillUp(t *testing.T, dir string, room int64) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		err = f.Truncate(info.Size() - room)
	}
	if err != nil {
		t.Fatal(err)
	}
	return ballast
}

const noRoom = "no space left on device"

// A backup for which there is no room leaves nothing and says so, and a scheduled one
// says so wherever it is looked for.
func TestBackupToFullDisk(t *testing.T) {
	t.Parallel()
	onSmallDisk(t, 1<<20, func(dir string) {
		v := binary.Init(t)
		ballast, to := fillUp(t, dir, 0), filepath.Join(dir, "backups")
		s := v.Start(t, "--backup-dir", to)
		s.Admin().Put(slot("salesforce", ""), value("x")).Wants(http.StatusCreated)
		until(t, "the failure", func() bool { return strings.Contains(s.Log(), "the scheduled backup failed") })
		wantsBackups(t, s, "failed", "degraded")
		if !strings.Contains(s.Log(), noRoom) {
			t.Error("the log does not say that the disk is full")
		}
		wants(t, s.Run("", "backup", filepath.Join(dir, "b.age")), 1, noRoom, "make room")
		entries := auditOf(s.Admin(), "backup_vault")
		if !slices.ContainsFunc(entries, func(e wire.AuditEntry) bool { return e.Source == "schedule" && e.Outcome == "internal" }) {
			t.Errorf("the audit log does not say that the scheduled backup failed: %+v", entries)
		}
		s.Stop()
		wants(t, binary.Run(t, "", nil, "backup", filepath.Join(dir, "b.age"), "--data-dir", v.Dir), 1, noRoom, "make room")
		wantsNothing(t, to)
		wantsNothing(t, dir, "ballast", "backups")
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		s = v.Start(t, "--backup-dir", to)
		until(t, "the backup", func() bool { return strings.Contains(s.Log(), "a scheduled backup was written") })
		wantsBackups(t, s, "ok", "ok")
	})
}

// wantsBackups fails the test unless the metrics and /readyz say this of the scheduled
// backups.
func wantsBackups(t *testing.T, s *sidecar.Sidecar, outcome, status string) {
	t.Helper()
	c := s.Admin()
	if metrics := string(c.Get("/metrics").Wants(http.StatusOK).Body); !strings.Contains(metrics, `sidevault_backups_total{outcome="`+outcome+`"} 1`) {
		t.Errorf("the metrics do not count a backup as %s", outcome)
	}
	var h wire.Health
	c.Get("/readyz").Wants(http.StatusOK).Into(&h)
	i := slices.IndexFunc(h.Checks, func(c wire.Check) bool { return c.Name == "backups" })
	if i < 0 || h.Checks[i].Status != status || h.Status != status || strings.Contains(h.Checks[i].Reason, "/") {
		t.Errorf("readyz says %+v", h)
	}
}

// A restore for which there is no room goes on when there is.
func TestRestoreToFullDisk(t *testing.T) {
	t.Parallel()
	onSmallDisk(t, 4<<20, func(dir string) {
		v := binary.Init(t)
		s := v.Start(t)
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			s.Admin().Put(named(slot("sftp", "staging"), name), value(padding)).Wants(http.StatusCreated)
		}
		file := filepath.Join(t.TempDir(), "b.age")
		wants(t, s.Run("", "backup", file), 0)
		for room, code := range map[int64]int{0: 1, 8 << 10: 6, 64 << 10: 6, 128 << 10: 6} {
			ballast, data := fillUp(t, dir, room), filepath.Join(dir, "data")
			restore := []string{"restore", file, "--data-dir", data, "--identity", v.File("identity.txt")}
			wants(t, binary.Run(t, "", nil, restore...), code, noRoom)
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			wants(t, binary.Run(t, "", nil, restore...), 0, "Restored the vault")
			restored := *v
			restored.Dir = data
			wants(t, verifyOffline(t, &restored), 0, "intact")
			if err := os.RemoveAll(data); err != nil {
				t.Fatal(err)
			}
		}
	})
}
