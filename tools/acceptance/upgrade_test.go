package acceptance

import (
	"compress/gzip"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// kept are the credentials of the vaults in testdata/upgrade.
var kept = []struct{ path, secret, from string }{
	{"/v1/credentials/salesforce?environment=staging", "for all", "null"},
	{"/v1/credentials/salesforce?environment=production", "production 3", "production"},
	{"/v1/credentials/salesforce?environment=production&version=1", "production 1", "production"},
	{"/v1/credentials/slack?environment=staging&name=n%C3%A4me%20%2F%202", "second of staging", "staging"},
	{"/v1/credentials/acme?environment=development", "waits for its syncer", "development"},
	{"/v1/credentials/telegram?environment=staging", "after a rotation", "staging"},
}

// unpacked returns a vault of a released format, in a directory of its own, the
// arguments of serve that it was made with, and its backup.
func unpacked(t *testing.T, format string) (v *sidecar.Vault, args []string, backup string) {
	t.Helper()
	from, dir := filepath.Join("testdata", "upgrade", format), t.TempDir()
	data := filepath.Join(dir, "data")
	must(t, os.Mkdir(data, 0o700))
	copied := func(name, to string) string {
		text, err := os.ReadFile(filepath.Join(from, name))
		must(t, err)
		must(t, os.WriteFile(to, text, 0o600))
		return string(text)
	}
	for _, name := range []string{"identity.txt", "vault.pub"} {
		copied(name, filepath.Join(data, name))
	}
	for _, name := range []string{"sidevault.yaml", "catalog.yaml", "backup.age"} {
		copied(name, filepath.Join(dir, name))
	}
	packed, err := os.Open(filepath.Join(from, "vault.db.gz"))
	must(t, err)
	defer packed.Close()
	plain, err := gzip.NewReader(packed)
	must(t, err)
	file, err := io.ReadAll(plain)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(data, "vault.db"), file, 0o600))
	key := copied("admin.key", filepath.Join(dir, "admin.key"))
	return binary.Existing(t, data, strings.TrimSpace(key)), []string{"--config", filepath.Join(dir, "sidevault.yaml")}, filepath.Join(dir, "backup.age")
}

// formats are the released formats that there is a vault of.
func formats(t *testing.T) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("testdata", "upgrade"))
	must(t, err)
	for _, e := range entries {
		if e.IsDir() {
			list = append(list, e.Name())
		}
	}
	if len(list) == 0 {
		t.Fatal("there is no vault of a released format")
	}
	return list
}

// TestUpgrade serves the vaults of every released format, as they were left.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for _, format := range formats(t) {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			v, args, _ := unpacked(t, format)
			intact(t, v)
			s := v.Start(t, args...)
			wantsKept(t, s)
			changesKept(t, s)
			fresh := filepath.Join(t.TempDir(), "backup.age")
			if o := s.Run("", "backup", fresh); o.Code != 0 {
				t.Error(o.Stderr)
			}
			s.Stop()
			intact(t, v)
			again := restored(t, v, fresh).Start(t, args...)
			wantsSecret(t, again.Admin(), resolve("salesforce", "production"), "production 4", "production")
		})
	}
}

// TestUpgradeOfABackup restores the backups of every released format.
func TestUpgradeOfABackup(t *testing.T) {
	t.Parallel()
	for _, format := range formats(t) {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			v, args, backup := unpacked(t, format)
			if o := binary.Run(t, "", nil, "backup", "verify", backup, "--data-dir", v.Dir); o.Code != 0 {
				t.Error(o.Stderr)
			}
			wantsKept(t, restored(t, v, backup).Start(t, args...))
		})
	}
}

// TestUpgradeIntoOtherStorage moves the vaults of every released format.
func TestUpgradeIntoOtherStorage(t *testing.T) {
	onShared(t, func(t *testing.T, on *sidecar.Binary) {
		for _, format := range formats(t) {
			v, args, _ := unpacked(t, format)
			moved := on.Existing(t, v.Dir, v.AdminKey)
			if o := binary.Run(t, "", nil, "migrate", "--from", v.Storage(), "--to", moved.URL); o.Code != 0 {
				t.Fatal(o.Stderr)
			}
			s := moved.Start(t, args...)
			wantsKept(t, s)
			changesKept(t, s)
			s.Stop()
			intact(t, moved)
		}
	})
}

func restored(t *testing.T, v *sidecar.Vault, backup string) *sidecar.Vault {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	if o := binary.Run(t, "", nil, "restore", backup, "--data-dir", dir, "--identity", v.File("identity.txt")); o.Code != 0 {
		t.Fatal(o.Stderr)
	}
	text, err := os.ReadFile(v.File("identity.txt"))
	must(t, err)
	if _, err := os.Stat(filepath.Join(dir, "identity.txt")); err != nil {
		must(t, os.WriteFile(filepath.Join(dir, "identity.txt"), text, 0o600))
	}
	return binary.Existing(t, dir, v.AdminKey)
}

func intact(t *testing.T, v *sidecar.Vault) {
	t.Helper()
	if o := verifyOffline(t, v); o.Code != 0 || !strings.Contains(o.Stdout, "intact") {
		t.Errorf("the audit log: %s%s", o.Stdout, o.Stderr)
	}
}

// wantsKept reads all that the vault had.
func wantsKept(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	c := s.Admin()
	for _, k := range kept {
		wantsSecret(t, c, k.path, k.secret, k.from)
	}
	fields := sidecar.Data[wire.Resolved](c.Get("/v1/credentials/sftp?environment=preview").Wants(http.StatusOK)).Fields
	if fields["host"].Reveal() != "sftp.example.com" || fields["username"].Reveal() != "me" || fields["password"].Reveal() != "s3cret" {
		t.Error("the fields are not those that were set")
	}
	c.Get(resolve("zoominfo", "staging")).Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
	c.Delete(slot("zoominfo", "staging")).Fails(http.StatusConflict, "CREDENTIAL_ALREADY_DELETED")
	status := sidecar.Data[wire.SlotStatus](c.Get(slot("acme", "development")).Wants(http.StatusOK))
	if len(status.Sync) != 1 || status.Sync[0].State == "synced" || status.Sync[0].State == "never" {
		t.Errorf("the change that waited for its syncer does not wait: %+v", status.Sync)
	}
	labelled := sidecar.Data[wire.SlotStatus](c.Get(slot("salesforce", "production")).Wants(http.StatusOK))
	if labelled.Credential == nil || labelled.Credential.Labels["team"] != "crm" || labelled.Credential.ExpiresAt == nil {
		t.Error("labels or expiry are missing")
	}
	if entries := auditOf(c, "set_integration_credentials"); len(entries) != 9 {
		t.Errorf("%d sets are in the audit log, want 9", len(entries))
	}
	text, err := os.ReadFile(filepath.Join("testdata", "upgrade", "1", "reader.key"))
	must(t, err)
	reader := s.Client(strings.TrimSpace(string(text)))
	reader.Get(resolve("salesforce", "staging")).Wants(http.StatusOK)
	reader.Get(resolve("salesforce", "production")).Fails(http.StatusForbidden, "FORBIDDEN")
}

// changesKept sets, deletes, and rotates a key, over what the vault had.
func changesKept(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	c := s.Admin()
	set := sidecar.Data[wire.SetResult](c.Put(slot("salesforce", "production"), value("production 4")).Wants(http.StatusOK))
	if set.Version != 4 {
		t.Errorf("the next version is %d, want 4", set.Version)
	}
	c.Put(slot("zoominfo", "staging"), value("new")).Wants(http.StatusCreated)
	c.Delete(slot("telegram", "staging")).Wants(http.StatusOK)
	for _, environment := range []string{"production", "staging"} {
		if o := s.Run("", "rotate", "environment", environment); o.Code != 0 {
			t.Fatal(o.Stderr)
		}
	}
	wantsSecret(t, c, resolve("salesforce", "production"), "production 4", "production")
	wantsSecret(t, c, resolve("salesforce", "production")+"&version=1", "production 1", "production")
	usage := sidecar.Data[wire.Usage](c.Get("/v1/credentials/salesforce/" + set.ID + "/usage").Wants(http.StatusOK))
	if len(usage.Consumers) == 0 {
		t.Error("nobody is known to have read the credential")
	}
}
