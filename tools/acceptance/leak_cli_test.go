package acceptance

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// commands sends secrets through the command line.
func (l *leaks) commands() {
	l.t.Helper()
	token := l.file("token", l.s.AdminKey)
	at := []string{"SIDEVAULT_ADDR=" + l.s.URL, "SIDEVAULT_TOKEN_FILE=" + token}
	run := func(want int, input string, args ...string) sidecar.Outcome {
		return l.run(want, nil, input, at, args...)
	}
	piped := l.text("from standard input")
	run(0, piped, "set", "salesforce", "-e", "production")
	got := l.run(0, []string{"from standard input"}, "", at, "get", "salesforce", "-e", "production")
	if got.Stdout != piped {
		l.t.Error("get does not print what was set")
	}
	run(0, "", "set", "salesforce", "--from-file", l.file("value", l.text("from a file")), "--json")
	run(0, "", "set", "sftp", "-e", "development", "--field", "host=@"+l.file("host", "h"), "--field", "username=@"+l.file("user", "u"),
		"--field", "password=@"+l.file("password", l.text("field from a file")))
	l.run(0, []string{"field from a file"}, "", at, "get", "sftp", "-e", "development", "--json")
	run(2, "", "get", "sftp", "-e", "development")

	run(2, strings.Repeat(l.core("too long for the command"), 400), "set", "slack")
	run(2, strings.Repeat(l.core("far too long for the command"), 12000), "set", "slack")
	run(2, l.text("for an environment that is not"), "set", "slack", "-e", "prod")
	run(3, l.text("for an integration that is not"), "set", "nosuch")
	run(2, "", "set", "slack", l.core("as an argument"))
	run(2, "", "set", "sftp", "--field", "password="+l.core("as a field's argument"))
	run(2, "", "set", "sftp", "--field", l.core("as a field"))
	l.run(4, nil, "x", []string{at[0], "SIDEVAULT_TOKEN=svk_" + l.core("as a wrong token")}, "set", "slack")
	l.run(-1, nil, "x", []string{at[0], "SIDEVAULT_TOKEN=" + l.core("as a token of control characters") + "\x01\n\x1b"}, "set", "slack")
	l.run(6, nil, l.text("for nobody"), []string{"SIDEVAULT_ADDR=http://127.0.0.1:1", at[1]}, "set", "slack")
	for _, args := range [][]string{{"list"}, {"status", "salesforce", "--json"}, {"audit", "list", "--limit", "500", "--json"}, {"key", "list", "--json"}} {
		run(0, "", args...)
	}
	l.moves(run)
	run(0, "", "delete", "salesforce")
	l.watched(at)
}

// moves sends secrets through the commands that read and write files of credentials.
func (l *leaks) moves(run func(want int, input string, args ...string) sidecar.Outcome) {
	l.t.Helper()
	variable := "SALESFORCE_VALUE='" + l.core("in a .env file") + "'\n"
	for _, args := range [][]string{{"--dry-run"}, {}, {"--json"}} {
		run(0, variable, append([]string{"import", "-", "-e", "staging"}, args...)...)
	}
	for format, text := range map[string]string{
		"env":       "SALESFORCE_VALUE=1\n" + l.core("at the start of a broken line") + "\nA='" + l.core("in a broken quote"),
		"csv":       "integration,value\nsalesforce," + l.core("in a broken row") + ",x\n",
		"json":      `{"sftp": {"host": "` + l.core("in broken JSON") + `"`,
		"vault":     `{"data": {"host": "` + l.core("in KV version 1") + `"}}`,
		"1password": `[{"password": "` + l.core("in no item") + `"}]`,
		"doppler":   `{"A": ["` + l.core("in a list") + `"]}`,
	} {
		run(2, text, "import", "-", "--format", format)
	}
	run(2, "SFTP_HOST="+l.core("in an incomplete credential"), "import", "-", "--format", "env")
	run(0, "", "copy", "salesforce", "--from", "staging", "--to", "development")
	run(0, "", "rename", "salesforce", "moved", "-e", "development")
	run(0, "", "diff", "staging", "development", "--json")
	for _, format := range []string{"json", "csv"} {
		run(0, "", "export", "--all", "--format", format)
	}
	run(0, "", "export", "-e", "staging", "--reveal", "--out", filepath.Join(l.t.TempDir(), "export.json"))
}

// run runs a command and searches what it prints; its standard output may hold
// some secrets. An exit code of -1 stands for any but 0.
func (l *leaks) run(want int, may []string, input string, environ []string, args ...string) sidecar.Outcome {
	l.t.Helper()
	o := binary.Run(l.t, input, environ, args...)
	if o.Code != want && (want != -1 || o.Code == 0) {
		l.t.Errorf("%s ended with %d, want %d", args[0], o.Code, want)
	}
	l.search("what "+args[0]+" prints", []byte(o.Stdout), may...)
	l.search("the errors of "+args[0], []byte(o.Stderr))
	return o
}

// watched looks at a command that has read half of a secret.
func (l *leaks) watched(environ []string) {
	l.t.Helper()
	cmd := exec.CommandContext(l.t.Context(), binary.Path(), "set", "slack", "-e", "development")
	cmd.Env = append([]string{"HOME=" + l.t.TempDir(), "GORACE=atexit_sleep_ms=0"}, environ...)
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	input, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	secret := l.text("while the command runs")
	if _, err := input.Write([]byte(secret[:len(secret)/2])); err != nil {
		l.t.Error(err)
	}
	l.searchProcess("the command", cmd.Process.Pid)
	if _, err := input.Write([]byte(secret[len(secret)/2:])); err != nil {
		l.t.Error(err)
	}
	input.Close()
	if err := cmd.Wait(); err != nil {
		l.t.Errorf("set: %v", err)
	}
	l.search("what set prints", printed.Bytes())
}

// file writes a file that is a secret's proper place.
func (l *leaks) file(name, content string) string {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}
