package acceptance

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

const (
	exitDenied      = 4
	exitUnavailable = 6

	crownJewels = "of production, for one host alone"
)

// newIdentity writes an identity file, and returns its path and its recipient.
func newIdentity(t *testing.T) (path, recipient string) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(path, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, id.Recipient().String()
}

// guest returns the vault as a host has it that shares its storage and trusts it,
// with an identity of its own.
func guest(t *testing.T, v *sidecar.Vault) (host *sidecar.Vault, recipient string) {
	t.Helper()
	path, recipient := newIdentity(t)
	host = v.OtherHost(t)
	if err := os.Rename(path, host.File("identity.txt")); err != nil {
		t.Fatal(err)
	}
	return host, recipient
}

// offlineCommand runs a command on the vault's storage itself.
func offlineCommand(t *testing.T, v *sidecar.Vault, args ...string) sidecar.Outcome {
	t.Helper()
	return binary.Run(t, "", nil, v.Args(args...)...)
}

// done fails the test unless the command ended well, and returns what it printed.
func done(t *testing.T, o sidecar.Outcome) string {
	t.Helper()
	if o.Code != 0 {
		t.Fatalf("ended with %d: %s", o.Code, o.Stderr)
	}
	return o.Stdout + o.Stderr
}

// refusedWith fails the test unless the command ended so, with one line and a hint.
func refusedWith(t *testing.T, o sidecar.Outcome, code int, says string) {
	t.Helper()
	if o.Code != code || !strings.Contains(o.Stderr, says) {
		t.Errorf("ended with %d, want %d and %q: %s", o.Code, code, says, o.Stderr)
	}
	if strings.Count(o.Stderr, "\n") > 2 || !strings.HasPrefix(o.Stderr, "sidevault: ") {
		t.Errorf("more than a line and a hint: %s", o.Stderr)
	}
}

// TestHostWithoutProductionsKey gives a second host the whole database, its own
// identity, and every key but production's.
func TestHostWithoutProductionsKey(t *testing.T) {
	t.Parallel()
	onShared(t, testHostWithoutProductionsKey)
}

func testHostWithoutProductionsKey(t *testing.T, on *sidecar.Binary) {
	first := on.Init(t).Start(t)
	for environment, secret := range map[string]string{"production": crownJewels, "staging": "of staging", "": "of all"} {
		first.Admin().Put(slot("salesforce", environment), value(secret)).Wants(http.StatusCreated)
	}
	host, recipient := guest(t, first.Vault)
	refusedWith(t, offlineCommand(t, host, "serve", "--listen", "127.0.0.1:0"), 1, "made for another identity")
	done(t, offlineCommand(t, first.Vault, "env", "share", "development", "preview", "staging", "@shared", "--recipient", recipient))
	second := host.Start(t)
	wantsLocked(t, second.Admin())
	wantsRest(t, second.Admin())
	wantsLockedCommands(t, second)
	wantsNothingRecovered(t, second)
	wantsSecret(t, first.Admin(), resolve("salesforce", "production"), crownJewels, "production")
	second.Admin().Delete(slot("salesforce", "production")).Wants(http.StatusOK)
	first.Admin().Get(resolve("salesforce", "production")+"&fallback=false").Fails(http.StatusNotFound, "CREDENTIAL_NOT_FOUND")
}

// wantsLocked tries everything that takes production's key.
func wantsLocked(t *testing.T, c *sidecar.Client) {
	t.Helper()
	details := sidecar.Data[wire.Credential](c.Get(strings.Replace(resolve("salesforce", "production"), "?", "/details?", 1)).Wants(http.StatusOK))
	for _, answer := range []*sidecar.Answer{
		c.Get(resolve("salesforce", "production")),
		c.Get(resolve("salesforce", "production") + "&version=1"),
		c.Put(slot("salesforce", "production"), value("planted")),
		c.Put(slot("slack", "production"), value("planted")),
		c.Post(strings.Replace(slot("salesforce", "production"), "?", "/test?", 1), value("tried")),
		c.Post(strings.Replace(slot("salesforce", "production"), "?", "/test?", 1), nil),
		c.Post(atID(details)+"/rollback", map[string]any{"version": 1}),
		c.Patch(atID(details), map[string]any{"name": "renamed"}),
	} {
		if f := answer.Fails(http.StatusServiceUnavailable, "ENVIRONMENT_LOCKED"); strings.Contains(string(answer.Body), crownJewels) || f.Error.Message == "" {
			t.Error("the refusal says nothing, or too much")
		}
	}
}

// wantsRest uses what takes no key of production's.
func wantsRest(t *testing.T, c *sidecar.Client) {
	t.Helper()
	details := sidecar.Data[wire.Credential](c.Get(strings.Replace(resolve("salesforce", "production"), "?", "/details?", 1)).Wants(http.StatusOK))
	for _, path := range []string{
		slot("salesforce", "production"), "/v1/integrations/credentials", "/v1/integrations/credentials/" + details.ID,
		atID(details) + "/versions", atID(details) + "/usage", "/v1/audit", "/v1/keys", "/v1/environments/production/rotation",
	} {
		c.Get(path).Wants(http.StatusOK)
	}
	c.Patch(atID(details), map[string]any{"labels": map[string]string{"seen": "yes"}}).Wants(http.StatusOK)
	if head := sidecar.Data[wire.AuditHead](c.Get("/v1/audit/head?verify=true").Wants(http.StatusOK)); head.Intact == nil || !*head.Intact {
		t.Error("the audit log does not verify there")
	}
	wantsSecret(t, c, resolve("salesforce", "staging"), "of staging", "staging")
	wantsSecret(t, c, resolve("salesforce", "development"), "of all", "null")
	c.Post(strings.Replace(slot("salesforce", "staging"), "?", "/test?", 1), value("tried")).Wants(http.StatusOK)
	c.Put(slot("salesforce", "development"), value("set there")).Wants(http.StatusCreated)
	for _, e := range sidecar.Data[[]wire.Environment](c.Get("/v1/environments").Wants(http.StatusOK)) {
		if e.KeyHeld == (e.Name == "production") {
			t.Errorf("environment %s: keyHeld is %v", e.Name, e.KeyHeld)
		}
	}
}

// wantsLockedCommands tries the command line, against the sidecar and on the storage.
func wantsLockedCommands(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	const says = "This host has no key for production"
	refusedWith(t, s.Run("", "get", "salesforce", "-e", "production"), exitUnavailable, says)
	refusedWith(t, s.Run("planted", "set", "salesforce", "-e", "production"), exitUnavailable, says)
	refusedWith(t, s.Run("tried", "test", "salesforce", "-e", "production"), exitUnavailable, says)
	refusedWith(t, s.Run("", "rotate", "environment", "production"), exitUnavailable, says)
	for _, args := range [][]string{{"status", "salesforce", "-e", "production"}, {"list", "--configured"}, {"audit", "verify"}, {"env", "list"}, {"get", "salesforce", "-e", "staging"}} {
		done(t, s.Run("", args...))
	}
	_, accomplice := newIdentity(t)
	refusedWith(t, offlineCommand(t, s.Vault, "env", "share", "production", "--recipient", accomplice), exitUnavailable, "cannot open the key of production")
	refusedWith(t, offlineCommand(t, s.Vault, "env", "share", "--all", "--recipient", accomplice), exitUnavailable, "cannot open the key of production")
	refusedWith(t, offlineCommand(t, s.Vault, "rotate", "environment", "production", "--offline"), exitUnavailable, says)
}

// wantsNothingRecovered follows the recipes of docs/recovery.md on the host. They find
// staging's credential: what keeps them from production's is its key.
func wantsNothingRecovered(t *testing.T, s *sidecar.Sidecar) {
	t.Helper()
	backup := filepath.Join(t.TempDir(), "backup.age")
	own, recipient := newIdentity(t)
	done(t, offlineCommand(t, s.Vault, "backup", backup, "--recipient", recipient))
	both := filepath.Join(t.TempDir(), "both.txt")
	var keys []byte
	for _, path := range []string{own, s.File("identity.txt")} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, text...)
	}
	if err := os.WriteFile(both, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	for section, variables := range map[string]map[string]string{
		withExport: {"data": s.Dir, "identity": s.File("identity.txt"), "integration": "salesforce"},
		fromBackup: {"backup": backup, "identity": both, "integration": "salesforce"},
	} {
		text := "export SIDEVAULT_BACKEND='" + s.Vault.URL + "'\n" + recipe(t, section)
		variables["environment"] = "staging"
		follow(t, text, variables).wants(t, "staging", 1, map[string]string{"value": "of staging"})
		variables["environment"] = "production"
		stdout, stderr, err := paste(t, text, variables)
		if err == nil || strings.Contains(stdout+stderr, crownJewels) || !strings.Contains(stderr, "no identity matched") {
			t.Errorf("%s: production's credential was recovered, or something else went wrong: %v", section, err)
		}
	}
}

// TestHostLosesProductionsKey takes the key from a host that has just served with it.
func TestHostLosesProductionsKey(t *testing.T) {
	t.Parallel()
	onShared(t, testHostLosesProductionsKey)
}

func testHostLosesProductionsKey(t *testing.T, on *sidecar.Binary) {
	first := on.Init(t).Start(t)
	first.Admin().Put(slot("salesforce", "production"), value(crownJewels)).Wants(http.StatusCreated)
	host, recipient := guest(t, first.Vault)
	done(t, offlineCommand(t, first.Vault, "env", "share", "--all", "--recipient", recipient))
	second := host.Start(t)
	c := second.Admin()
	for range 3 {
		wantsSecret(t, c, resolve("salesforce", "production"), crownJewels, "production")
	}
	warned := done(t, offlineCommand(t, first.Vault, "env", "unshare", "production", "--recipient", recipient))
	if !strings.Contains(warned, "has known the old keys") || !strings.Contains(warned, "sidevault rotate environment production") {
		t.Errorf("unshare does not say what it cannot take back: %s", warned)
	}
	lag := until(t, "the key that was taken away", func() bool {
		a, err := c.Try(http.MethodGet, resolve("salesforce", "production"), nil)
		return err == nil && a.Status == http.StatusServiceUnavailable
	})
	t.Logf("locked %v after the command had ended", lag)
	if lag > maxLag {
		t.Error("that is too late")
	}
	wantsLocked(t, c)
	done(t, first.Run("", "rotate", "environment", "production"))
	wantsLocked(t, c)
	wantsSecret(t, first.Admin(), resolve("salesforce", "production"), crownJewels, "production")
	second.Stop()
	wantsLocked(t, host.Start(t).Admin())
	wantsAudited(t, first.Admin(), map[string]int{"share_environment": 1, "unshare_environment": 1, "rotate_environment_key": 2})
}

// wantsAudited fails the test unless the log has so many successes of each action.
func wantsAudited(t *testing.T, c *sidecar.Client, want map[string]int) {
	t.Helper()
	for action, n := range want {
		got := 0
		for _, e := range auditOf(c, action) {
			if e.Outcome == "success" && e.Actor.Kind != "" {
				got++
			}
		}
		if got != n {
			t.Errorf("the audit log has %d entries of %s, want %d", got, action, n)
		}
	}
}
