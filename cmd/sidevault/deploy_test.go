package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/google/go-cmp/cmp"
)

const deploy = "../../deploy/"

// directives returns a unit's, by section and name. One that is given again adds to it.
func directives(t *testing.T, file string) map[string]string {
	t.Helper()
	sections, err := unit.DeserializeSections(strings.NewReader(readFile(t, deploy+"systemd/"+file)))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range sections {
		for _, e := range s.Entries {
			key := s.Section + "." + e.Name
			if before, again := all[key]; again {
				e.Value = before + "\n" + e.Value
			}
			all[key] = e.Value
		}
	}
	return all
}

// hardening is what docs/deployment.md promises of the service.
var hardening = map[string]string{
	"Type": "notify", "UMask": "0077", "User": "sidevault", "StateDirectory": "sidevault", "StateDirectoryMode": "0700",
	"LoadCredential": "sidevault-identity:/etc/sidevault/identity.txt", "LimitCORE": "0", "LimitMEMLOCK": "infinity",
	"NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
	"PrivateDevices": "yes", "ProtectProc": "invisible", "ProtectKernelTunables": "yes", "ProtectKernelModules": "yes",
	"ProtectControlGroups": "yes", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "RestrictNamespaces": "yes",
	"RestrictSUIDSGID": "yes", "LockPersonality": "yes", "MemoryDenyWriteExecute": "yes", "SystemCallArchitectures": "native",
}

func TestSystemdUnit(t *testing.T) {
	service := directives(t, "sidevault.service")
	for name, want := range hardening {
		if got, given := service["Service."+name]; !given || got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
	if filter := service["Service.SystemCallFilter"]; !strings.HasPrefix(filter, "@system-service") || !strings.Contains(filter, "~@privileged") {
		t.Errorf("SystemCallFilter=%s", filter)
	}
	wantsServe(t, strings.Fields(service["Service.ExecStart"]))
	socket := directives(t, "sidevault.socket")
	want := map[string]string{"Socket.ListenStream": defaultListen + "\n/run/sidevault/sidevault.sock", "Socket.SocketMode": "0660", "Socket.SocketUser": "sidevault"}
	for name, value := range want {
		if socket[name] != value {
			t.Errorf("%s=%s, want %s", name, socket[name], value)
		}
	}
}

// wantsServe fails the test unless the words are a command line of serve.
func wantsServe(t *testing.T, words []string) {
	t.Helper()
	if len(words) < 2 || words[0] != "/usr/bin/sidevault" || words[1] != "serve" {
		t.Fatalf("%q does not serve", words)
	}
	if err := newServeCommand(&shell{}).ParseFlags(words[2:]); err != nil {
		t.Errorf("%q: %v", words, err)
	}
}

// TestSystemdAccepts has systemd's own tool look at the units, where there is one:
// what TestSystemdUnit holds them to it cannot tell from a typing error.
func TestSystemdAccepts(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	dir := t.TempDir()
	for _, name := range []string{"sidevault.service", "sidevault.socket"} {
		// It looks for the program, which need not be installed here.
		text := strings.ReplaceAll(readFile(t, deploy+"systemd/"+name), "/usr/bin/sidevault", "/bin/true")
		writeFile(t, filepath.Join(dir, name), text, 0o600)
	}
	service := filepath.Join(dir, "sidevault.service")
	if out, err := exec.Command(analyze, "verify", "--man=no", service, filepath.Join(dir, "sidevault.socket")).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	const exposure = "20" // of 100; "ok" ends at 45
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold="+exposure, service).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

var stageRE = regexp.MustCompile(`(?m)^FROM (\S+)`)

// TestDockerfile reads the file: it takes Docker to build it.
func TestDockerfile(t *testing.T) {
	text := readFile(t, deploy+"container/Dockerfile")
	stages := stageRE.FindAllStringSubmatch(text, -1)
	mod := readFile(t, "../../go.mod")
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(mod)[1]
	if len(stages) != 2 || stages[0][1] != "golang:"+version || stages[1][1] != "scratch" {
		t.Errorf("stages %q, want golang:%s and scratch", stages, version)
	}
	final := text[strings.LastIndex(text, "\nFROM"):]
	instructions := map[string]string{}
	for line := range strings.Lines(final) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		instructions[name] = rest
	}
	if instructions["USER"] != "65532:65532" || instructions["VOLUME"] != defaultDataDir {
		t.Errorf("USER %s, VOLUME %s", instructions["USER"], instructions["VOLUME"])
	}
	if _, runs := instructions["RUN"]; runs {
		t.Error("an image from scratch has no shell to RUN")
	}
	var words []string
	for _, name := range []string{"ENTRYPOINT", "CMD"} {
		var more []string
		if err := json.Unmarshal([]byte(instructions[name]), &more); err != nil {
			t.Errorf("%s %s: %v", name, instructions[name], err)
		}
		words = append(words, more...)
	}
	wantsServe(t, words)
	ignored := strings.Fields(readFile(t, "../../.dockerignore"))
	if diff := cmp.Diff([]string{".git", ".sidevault", ".tools", "bin"}, ignored); diff != "" {
		t.Errorf("what is not sent to be built (-want +got):\n%s", diff)
	}
}

// A credential of systemd's shows the service's entry in its access control list as the
// group's permission; nowhere else is that put up with.
func TestCredentialOfSystemd(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sidevault-identity")
	writeFile(t, path, "secret", 0o600)
	if err := os.Chmod(path, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := readPrivate("identity file", path, 100); err == nil {
		t.Error("a file that the group can read was accepted")
	}
	t.Setenv(credentialsVariable, dir)
	if _, err := readPrivate("identity file", path, 100); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := readPrivate("identity file", path, 100); err == nil {
		t.Error("a file that everybody can read was accepted")
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := readPrivate("identity file", link, 100); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a symbolic link: %v", err)
	}
}
