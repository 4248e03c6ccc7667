package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

const keysDocument = "../../docs/keys.md"

var (
	codeRE    = regexp.MustCompile("`(sidevault (?:env|rotate|init) [^`]*)`")
	commentRE = regexp.MustCompile(`\s+#.*$`)
)

// documented returns the commands of docs/keys.md, in the order that they stand in.
func documented(t *testing.T) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(keysDocument)
	if err != nil {
		t.Fatal(err)
	}
	block := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		found := []string{}
		switch {
		case strings.HasPrefix(line, "```"):
			block = line == "```sh"
		case block:
			found = append(found, commentRE.ReplaceAllString(line, ""))
		default:
			for _, m := range codeRE.FindAllStringSubmatch(line, -1) {
				found = append(found, m[1])
			}
		}
		for _, c := range found {
			if !slices.Contains(commands, c) {
				commands = append(commands, c)
			}
		}
	}
	return commands
}

// operator is who works through the document: on a shared storage, so that the
// commands which work on it find a sidecar that serves.
type operator struct {
	t         *testing.T
	s         *sidecar.Sidecar
	recipient string // of another host
	recovery  string // identity file
	dir       string
}

// types runs a command as it is printed, with the recipients and paths that there are
// here.
func (o *operator) types(command string, environ ...string) (printed string) {
	o.t.Helper()
	line := strings.NewReplacer("age1...", o.recipient, "--recipient R", "--recipient "+o.recipient, "/etc/sidevault/", o.dir+"/").Replace(command)
	cmd := exec.CommandContext(o.t.Context(), "sh", "-euc", line)
	cmd.Env = slices.Concat([]string{
		"PATH=" + searchPath(o.t), "HOME=" + o.dir, "GORACE=atexit_sleep_ms=0", "SIDEVAULT_ADDR=" + o.s.URL, "SIDEVAULT_TOKEN=" + o.s.AdminKey,
		"SIDEVAULT_DATA_DIR=" + o.s.Dir, "SIDEVAULT_BACKEND=" + o.s.Vault.URL,
	}, environ)
	out, err := cmd.CombinedOutput()
	if err != nil {
		o.t.Errorf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// TestDocumentOfKeys types every command of docs/keys.md. Those that change who can
// open what, or with which key, are in the audit log.
func TestDocumentOfKeys(t *testing.T) {
	t.Parallel()
	recovery, recoveryRecipient := newIdentity(t)
	_, recipient := newIdentity(t)
	v := binary.On(sidecar.Postgres).Init(t, "--recipient", recoveryRecipient)
	o := &operator{t: t, s: v.Start(t), recipient: recipient, recovery: recovery, dir: t.TempDir()}
	_, own := newIdentity(t)
	steps := map[string]struct {
		action string
		before func()
		env    []string
		says   string
	}{
		"sidevault env list": {says: "RECIPIENTS"},
		"sidevault env keys": {says: "@control"},
		"sidevault init --recipient R": {says: "Made the vault",
			env: []string{"SIDEVAULT_BACKEND=", "SIDEVAULT_DATA_DIR=" + filepath.Join(o.dir, "first")}},
		"sidevault init --post-quantum": {says: "Made the vault",
			env: []string{"SIDEVAULT_BACKEND=", "SIDEVAULT_DATA_DIR=" + filepath.Join(o.dir, "second")}},
		"sidevault env share staging @shared --recipient age1...": {action: "share_environment", says: recipient},
		"sidevault env unshare staging --recipient age1...":       {action: "unshare_environment", says: "sidevault rotate environment staging"},
		"sidevault env lock production":                           {action: "unshare_environment", says: "This host has known the key"},
		"sidevault env share --all --recipient age1...": {action: "share_environment", says: recipient,
			before: func() { o.giveBack("production") }},
		"sidevault rotate environment production": {action: "rotate_environment_key", says: "key 2 is in force",
			before: o.waitsForKeys},
		"sidevault rotate environment --all":                                 {action: "rotate_environment_key", says: "Rotated @shared: key 2"},
		"sidevault rotate root --new-identity /etc/sidevault/identity-2.txt": {action: "rotate_root_recipient", says: "--identity " + o.dir + "/identity-2.txt"},
		"sidevault rotate root --to age1...": {action: "rotate_root_recipient", says: "serve with the identity of " + own,
			before: func() { o.recipient = own }, env: []string{"SIDEVAULT_IDENTITY=" + o.dir + "/identity-2.txt"}},
	}
	for _, command := range documented(t) {
		step, known := steps[command]
		if !known {
			t.Errorf("nobody types %q", command)
			continue
		}
		delete(steps, command)
		if step.before != nil {
			step.before()
		}
		logged := o.logged(step.action)
		if printed := o.types(command, step.env...); !strings.Contains(printed, step.says) {
			t.Errorf("%s does not say %q: %s", command, step.says, printed)
		}
		if n := o.logged(step.action); step.action != "" && n <= logged {
			t.Errorf("%s is not in the audit log", command)
		}
	}
	for command := range steps {
		t.Errorf("%s has no %q", keysDocument, command)
	}
}

// logged counts the successes of an action.
func (o *operator) logged(action string) (n int) {
	if action == "" {
		return 0
	}
	for _, e := range auditOf(o.s.Admin(), action) {
		if e.Outcome == "success" {
			n++
		}
	}
	return n
}

// giveBack has the holder of the recovery identity share an environment with this host.
func (o *operator) giveBack(environment string) {
	o.t.Helper()
	file, err := os.Open(o.s.File("identity.txt"))
	if err != nil {
		o.t.Fatal(err)
	}
	defer file.Close()
	ids, err := age.ParseIdentities(file)
	if err != nil {
		o.t.Fatal(err)
	}
	own := ids[0].(*age.X25519Identity).Recipient().String()
	done(o.t, offlineCommand(o.t, o.s.Vault, "env", "share", environment, "--recipient", own, "--identity", o.recovery))
}

// waitsForKeys waits until the sidecar holds every key.
func (o *operator) waitsForKeys() {
	waitFor(o.t, "every key", func() bool {
		return !strings.Contains(o.types("sidevault env list --json"), `"keyHeld": false`)
	})
}
