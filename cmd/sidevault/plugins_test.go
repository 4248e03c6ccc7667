package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/sidevault/sidevault/plugins/sdk"
)

// asPlugin makes the test binary a plugin of that kind.
const asPlugin = "RUN_AS_PLUGIN"

// runPlugin runs the plugin that the environment asks for, if any.
func runPlugin() bool {
	info := sdk.Info{Name: "acme", Version: "1.2.3", Description: "Keys of Acme."}
	switch os.Getenv(asPlugin) {
	case "validator":
		sdk.ServeValidator(acmeValidator{}, info)
	case "spy":
		sdk.ServeValidator(spy{}, info)
	case "syncer":
		sdk.ServeSyncer(acmeSyncer{}, info)
	default:
		return false
	}
	return true
}

type acmeValidator struct{}

func (acmeValidator) Validate(_ context.Context, r sdk.ValidateRequest) (sdk.ValidateResult, error) {
	if key := r.Fields["api_key"].Reveal(); !strings.HasPrefix(key, "acme_") {
		return sdk.Reject("Acme does not know %s", key).Field("api_key", "a key begins with acme_"), nil
	}
	return sdk.Accept(), nil
}

// spy rejects with what the sidecar answers it on its socket.
type spy struct{}

func (spy) Validate(ctx context.Context, r sdk.ValidateRequest) (sdk.ValidateResult, error) {
	var config struct{ Socket string }
	if err := r.Config.Decode(&config); err != nil {
		return sdk.ValidateResult{}, err
	}
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", config.Socket)
	}}}
	res, err := client.Get("http://localhost/v1/audit")
	if err != nil {
		return sdk.Reject("no answer: %v", err), nil
	}
	res.Body.Close()
	return sdk.Reject("the audit log: %d", res.StatusCode), nil
}

// acmeSyncer fails as long as its config says so.
type acmeSyncer struct{}

func (acmeSyncer) Sync(_ context.Context, r sdk.SyncRequest) (sdk.SyncResult, error) {
	var config struct{ Fail string }
	if err := r.Config.Decode(&config); err != nil {
		return sdk.SyncResult{}, err
	}
	if config.Fail != "" {
		return sdk.Fail("%s", config.Fail), nil
	}
	return sdk.Done(), nil
}

// guarded is a configuration with a validator and a syncer for acme.
type guarded struct {
	t               *testing.T
	config, catalog string // files
	sum             string // of the programs
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	dir := t.TempDir()
	g := &guarded{t: t, config: filepath.Join(dir, "sidevault.yaml"), catalog: filepath.Join(dir, "catalog.yaml")}
	var err error
	if g.sum, err = fileSum(self(t)); err != nil {
		t.Fatal(err)
	}
	g.configure(g.program("check", "validator") + g.program("tell", "syncer"))
	g.bind("the aggregator is down")
	return g
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (g *guarded) program(name, kind string) string {
	return fmt.Sprintf("    %s: {path: %q, sha256: %s, env: {%s: %s}}\n", name, self(g.t), g.sum, asPlugin, kind)
}

func (g *guarded) configure(programs string) {
	writeFile(g.t, g.config, "catalog: [catalog.yaml]\nplugins:\n  programs:\n"+programs, 0o600)
}

// bind writes the catalog; the syncer fails with that text.
func (g *guarded) bind(fail string) {
	writeFile(g.t, g.catalog, fmt.Sprintf(`integrations:
  - key: acme
    fields: [{name: api_key, required: true}]
    validators: [{plugin: check, fields: [api_key]}]
    syncers: [{plugin: tell, fields: [], config: {fail: %q}}]
`, fail), 0o600)
}

func (g *guarded) key(value string) string {
	return writeFile(g.t, filepath.Join(g.t.TempDir(), "key"), value, 0o600)
}

// reload has the sidecar read its files again, and waits for the log to say so.
func (g *guarded) reload(p *process, says string) {
	g.t.Helper()
	before := strings.Count(p.log.String(), says)
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(g.t, "the log says "+says, func() bool { return strings.Count(p.log.String(), says) > before })
}

func get(t *testing.T, url string) string {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, res.StatusCode, err)
	}
	return string(body)
}

func TestPluginCommands(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	p, dir := serveVault(t, "--config", g.config)
	p.cli(t, "", "plugin", "list").wants(t, exitOK, "check", "idle", g.sum[:shownSum])

	bad, good := "--field=api_key=@"+g.key("wrong-4711"), "--field=api_key=@"+g.key("acme_4711")
	for _, command := range []string{"test", "set"} {
		got := p.cli(t, "", command, "acme", bad)
		got.wants(t, exitUsage, "Acme does not know", "body.fields.api_key: a key begins with acme_", "check rejected it")
		if strings.Contains(got.out+got.err, "4711") {
			t.Errorf("%s prints the secret: %s", command, got.err)
		}
	}
	p.cli(t, "", "status", "acme").wants(t, exitOK, "Nothing is set for acme")
	p.cli(t, "", "test", "acme", good).wants(t, exitOK, "Passed")
	p.cli(t, "", "sync", "list").wants(t, exitOK, "Nothing is pending.")

	got := p.cli(t, "", "set", "acme", good)
	got.wants(t, exitError, "was stored, but its sync to tell failed", "the aggregator is down", "sidevault sync list")
	if !strings.HasPrefix(got.out, "Set acme in all environments: version 1, cred-") {
		t.Errorf("the set credential is not shown: %s", got.out)
	}
	p.cli(t, "", "sync", "list").wants(t, exitOK, "acme", "all environments", "tell", "failing", "set", "the aggregator is down")
	p.cli(t, "", "status", "acme").wants(t, exitOK, "active", "sync tell", "failing after", "the aggregator is down")
	var list []struct{ Plugin, State, LastError string }
	if err := json.Unmarshal([]byte(p.cli(t, "", "sync", "list", "--integration", "acme", "--plugin", "tell", "--json").out), &list); err != nil ||
		len(list) != 1 || list[0].Plugin != "tell" || list[0].LastError != "the aggregator is down" {
		t.Errorf("%+v, %v", list, err)
	}
	p.cli(t, "", "sync", "list", "-e", "production").wants(t, exitOK, "Nothing is pending.")

	retrySyncs(t, g, p)
	p.cli(t, "", "plugin", "list").wants(t, exitOK, "running", "validator", "syncer", "1.2.3")

	eventually(t, "the repeated change is delivered", func() bool {
		return strings.Contains(get(t, p.addr+"/metrics"), `sidevault_sync_pending{plugin="tell"} 0`)
	})
	metrics := get(t, p.addr+"/metrics")
	for _, line := range []string{
		`sidevault_plugin_calls_total{outcome="rejected",plugin="check",service="validator"} 2`,
		`sidevault_plugin_call_duration_seconds_count{plugin="check",service="validator"} 4`,
		`sidevault_plugin_processes{plugin="check"} 1`, `sidevault_sync_attempts_total{outcome="failed",plugin="tell"}`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	restoreTells(t, g, p, dir)
	if strings.Contains(p.log.String(), "4711") {
		t.Error("the log holds the secret")
	}
}

// retrySyncs mends the catalog and has what is pending delivered.
func retrySyncs(t *testing.T, g *guarded, p *process) {
	t.Helper()
	p.cli(t, "", "sync", "retry").wants(t, exitUsage, "nothing is named", "--all")
	p.cli(t, "", "sync", "retry", "acme", "--all").wants(t, exitUsage, "both given")
	p.cli(t, "", "sync", "retry", "--plugin", "other").wants(t, exitOK, "Due now: 0 syncs")
	g.bind("")
	g.reload(p, "the catalog was reloaded")
	p.cli(t, "", "sync", "retry", "--all").wants(t, exitOK, "Due now: ")
	eventually(t, "the change is delivered", func() bool {
		return strings.Contains(p.cli(t, "", "status", "acme").out, "synced")
	})
	p.cli(t, "", "sync", "list").wants(t, exitOK, "Nothing is pending.")
	p.cli(t, "", "sync", "retry", "acme").wants(t, exitOK, "Due now: 1 sync.")
}

// restoreTells deletes the credential, restores it offline, and demands that the
// syncer is told of it.
func restoreTells(t *testing.T, g *guarded, p *process, dir string) {
	t.Helper()
	var shown struct{ Credential struct{ ID string } }
	if err := json.Unmarshal([]byte(p.cli(t, "", "status", "acme", "--json").out), &shown); err != nil {
		t.Fatal(err)
	}
	p.cli(t, "", "delete", "acme").wants(t, exitOK, "Deleted")
	eventually(t, "the deletion is delivered", func() bool {
		return strings.Contains(p.cli(t, "", "sync", "list").out, "Nothing is pending.")
	})
	if code := p.signalled(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d\n%s", code, &p.log)
	}
	sidevault(t, "credential", "restore", shown.Credential.ID, "--data-dir", dir, "--config", g.config).wants(t, exitOK, "Restored acme")
	g.bind("not yet")
	again := startServe(t, p.keyFile, "--data-dir", dir, "--config", g.config)
	eventually(t, "the restored credential is delivered", func() bool {
		return strings.Contains(again.cli(t, "", "sync", "list").out, "not yet")
	})
}

func TestUnusablePlugin(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.configure(strings.Replace(g.program("check", "validator"), g.sum, strings.Repeat("0", 64), 1) + g.program("tell", "syncer"))
	p, _ := serveVault(t, "--config", g.config)
	p.cli(t, "", "set", "acme", "--field=api_key=@"+g.key("acme_1")).wants(t, exitUnavailable, "check", "sidevault plugin list")
	p.cli(t, "", "plugin", "list").wants(t, exitOK, "unusable", "tell")
	if body := get(t, p.addr+"/readyz"); !strings.Contains(body, `"degraded"`) || !strings.Contains(body, "check") {
		t.Errorf("readyz: %s", body)
	}
	p.cli(t, "x", "set", "slack").wants(t, exitOK)
	g.configure(g.program("check", "validator") + g.program("tell", "syncer"))
	g.bind("")
	g.reload(p, "the plugins were reloaded")
	p.cli(t, "", "set", "acme", "--field=api_key=@"+g.key("acme_1")).wants(t, exitOK, "Set acme")
	if body := get(t, p.addr+"/readyz"); strings.Contains(body, "degraded") {
		t.Errorf("readyz: %s", body)
	}
}

func TestReloadKeepsPluginsAndCatalogTogether(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.bind("")
	p, _ := serveVault(t, "--config", g.config)
	works := func() {
		t.Helper()
		p.cli(t, "", "set", "acme", "--field=api_key=@"+g.key("acme_1")).wants(t, exitOK)
	}
	works()
	const kept = "the plugins were not reloaded; the old ones stay in force"
	g.configure(g.program("check", "validator"))
	g.reload(p, kept)
	if !strings.Contains(p.log.String(), `catalog.yaml:5:16: syncers: no plugin \"tell\" is configured`) {
		t.Errorf("the log does not say why:\n%s", &p.log)
	}
	works()
	g.configure("    check: {sha265: x}\n")
	g.reload(p, kept)
	if !strings.Contains(p.log.String(), `sidevault.yaml:4:13: unknown key \"sha265\"`) {
		t.Errorf("the log does not say why:\n%s", &p.log)
	}
	works()
	// A catalog that binds a new program, and the program.
	g.configure(g.program("check", "validator") + g.program("tell", "syncer") + g.program("more", "validator"))
	text := readFile(t, g.catalog)
	writeFile(t, g.catalog, strings.Replace(text, "validators: [", "validators: [{plugin: more}, ", 1), 0o600)
	g.reload(p, "the catalog was reloaded")
	works()
	p.cli(t, "", "plugin", "list").wants(t, exitOK, "more", "running")
	// And back: the program and its binding go together.
	writeFile(t, g.catalog, text, 0o600)
	g.configure(g.program("check", "validator") + g.program("tell", "syncer"))
	g.reload(p, "the catalog was reloaded")
	works()
	if got := p.cli(t, "", "plugin", "list"); strings.Contains(got.out, "more") {
		t.Errorf("the program is still there:\n%s", got.out)
	}
}

func TestPluginsRefusedAtStart(t *testing.T) {
	t.Parallel()
	dir, _ := makeVault(t)
	g := newGuarded(t)
	serve := func(more ...string) outcome {
		return sidevault(t, append([]string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--config", g.config}, more...)...)
	}
	g.configure("    check: {path: " + self(t) + "}\n    tell: {path: nothing}\n")
	serve().wants(t, exitUsage, "sidevault.yaml:4:5: plugins.programs.check: sha256 is missing", "sha256: "+g.sum,
		"sidevault.yaml:5:5: plugins.programs.tell: sha256 is missing, and the program cannot be read", defaultPluginDir+"/nothing")
	g.configure(g.program("check", "validator"))
	serve().wants(t, exitUsage, "catalog.yaml:5:16: syncers: no plugin", "tell", "plugins.programs")
	writeFile(t, g.catalog, "", 0o600)
	two := t.TempDir()
	for _, name := range []string{"sidevault-validator-check", "sidevault-syncer-check"} {
		writeFile(t, filepath.Join(two, name), "", 0o700)
	}
	g.configure("    check:\n")
	serve("--plugins-dir", two).wants(t, exitUsage, "both exist", "path")
}

// A plugin that runs as a user whom a rule of peers makes an administrator is nobody.
func TestPluginsAreNoPeers(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("peers are identified on Linux alone")
	}
	g := newGuarded(t)
	socket := filepath.Join(shortDir(t), "s.sock")
	g.configure(g.program("spy", "spy") + fmt.Sprintf("  sandbox: off\npeers: [{uid: %d, name: tester, org: default, scope: admin, environments: ['*'], integrations: ['*']}]\n", os.Getuid()))
	writeFile(t, g.catalog, fmt.Sprintf("integrations: [{key: acme, validators: [{plugin: spy, config: {socket: %q}}]}]\n", socket), 0o600)
	p, _ := serveVault(t, "--config", g.config, "--listen", "unix://"+socket)
	p.cli(t, "x", "test", "acme").wants(t, exitUsage, "the audit log: 401")
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	res, err := client.Get("http://localhost/v1/audit")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("this process is no peer either: %d", res.StatusCode)
	}
}

// A development sidecar runs what is not pinned.
func TestUnpinnedWithDev(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.configure(strings.ReplaceAll(g.program("check", "validator")+g.program("tell", "syncer"), "sha256: "+g.sum+", ", ""))
	g.bind("")
	p := startServe(t, "", "--dev", "--config", g.config)
	eventually(t, "the banner", func() bool { return len(curls(p)) == 5 })
	key := p.out.String()
	key = key[strings.Index(key, "svk_"):]
	p.keyFile = g.key(key[:strings.IndexAny(key, " \n\"")])
	p.cli(t, "", "set", "acme", "--field=api_key=@"+g.key("acme_1")).wants(t, exitOK, "Set acme")
	p.cli(t, "", "plugin", "list", "--json").wants(t, exitOK, g.sum, `"status": "running"`)
}
