package acceptance

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/guide"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// root is the repository, seen from this package.
const root = "../.."

// readerOf is how a document's blocks of sh are typed: where and beside what.
type readerOf func(t *testing.T) *guide.Reader

// readings are the documents that TestDocuments types, block by block.
var readings = map[string]readerOf{
	"README.md":               newcomer,
	"docs/getting-started.md": beginner,
	"docs/concepts.md":        besideDev,
	"docs/rest.md":            besideDev,
	"docs/migration.md":       besideDev,
	"docs/run.md":             besideServices,
	"docs/backup.md":          besideVault,
	"docs/import.md":          besideStores,
	"docs/doctor.md":          func(t *testing.T) *guide.Reader { return besides(t, binary.Serve(t)) },
}

// afterwards is what a document is to have done by its end.
var afterwards = map[string][]guide.Block{"docs/import.md": imported()}

// elsewhere are the documents whose blocks are typed by tests of their own, or not at all.
var elsewhere = map[string]string{
	"docs/keys.md":                                "TestDocumentOfKeys",
	"docs/recovery.md":                            "TestRecoveryWithStockPrograms, TestRecoveryFromABackup, TestRecoveryOfADeletedCredential",
	"docs/deployment.md":                          "TestCompose",
	"docs/cli.md":                                 "files of the reader's own shells; TestCompletion and TestManual run the commands",
	"docs/configuration.md":                       "a profile takes ten seconds; TestProfiles takes one",
	"docs/mcp.md":                                 "programs of others; TestMCPInspector runs one of them",
	"docs/performance.md":                         "measurements",
	"docs/plugins.md":                             "TestPluginNew and TestPythonExample run the commands",
	"docs/security.md":                            "the targets of the Makefile that run these tests",
	"docs/design/audit.md":                        "a file of the reader's own, and jq",
	"examples/validator-go/README.md":             "TestGoExample",
	"examples/validator-node/README.md":           "TestNodeExample",
	"examples/validator-python/README.md":         "TestPythonExample",
	"tools/acceptance/testdata/upgrade/README.md": "made once for each format; TestUpgrade reads what it made",
}

// TestDocuments types what the documents say to type.
func TestDocuments(t *testing.T) {
	t.Parallel()
	for path, reader := range readings {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			reader(t).Follow(t, append(guide.Read(t, filepath.Join(root, path)), afterwards[path]...))
		})
	}
}

// TestEveryDocumentIsTyped finds the documents with commands that nobody types.
func TestEveryDocumentIsTyped(t *testing.T) {
	skipped := []string{".git", ".tools", ".sidevault", "bin", "node_modules"}
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && slices.Contains(skipped, d.Name()) {
			return errOrSkip(err)
		}
		if filepath.Ext(path) != ".md" || len(guide.Read(t, path)) == 0 {
			return nil
		}
		name := strings.TrimPrefix(path, root+"/")
		found[name] = true
		if readings[name] == nil && elsewhere[name] == "" {
			t.Errorf("nobody types the commands of %s", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range readings {
		if !found[name] {
			t.Errorf("%s has no commands", name)
		}
	}
	there := testsThere(t)
	for name, why := range elsewhere {
		if !found[name] {
			t.Errorf("%s has no commands", name)
		}
		for _, test := range namedRE.FindAllString(why, -1) {
			if !there[test] {
				t.Errorf("there is no test %s", test)
			}
		}
	}
}

var namedRE = regexp.MustCompile(`\bTest[A-Za-z0-9]+`)

func errOrSkip(err error) error {
	if err != nil {
		return err
	}
	return fs.SkipDir
}

var servingRE = regexp.MustCompile(`127\.0\.0\.1:[1-9][0-9]*`)

// serving waits until a sidecar says where it listens, which the documents have as the
// default address.
func serving(r *guide.Reader, said string) bool {
	at := servingRE.FindString(said)
	if at == "" || !strings.Contains(said, "sidevault is serving") {
		return false
	}
	r.Put("127.0.0.1:8271", at)
	r.Export("SIDEVAULT_ADDR", "http://"+at)
	return true
}

// at returns a reader who has the program, in an empty directory, and the system's
// directories below it. What they serve is on a free port.
func at(t *testing.T, dir string) *guide.Reader {
	t.Helper()
	bin, system := t.TempDir(), t.TempDir()
	for _, name := range []string{"etc/sidevault", "etc/app", "var/lib"} {
		if err := os.MkdirAll(filepath.Join(system, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(binary.Path(), filepath.Join(bin, "sidevault")); err != nil {
		t.Fatal(err)
	}
	r := &guide.Reader{
		Dir: dir,
		Env: []string{
			"PATH=" + bin + ":" + os.Getenv("SIDEVAULT_TOOLS") + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
			"SIDEVAULT_LISTEN=127.0.0.1:0", "GORACE=atexit_sleep_ms=0",
		},
		Stays: map[string]func(*guide.Reader, string) bool{"sidevault serve": serving},
	}
	for _, path := range []string{"/etc/sidevault", "/etc/app", "/var/lib/sidevault"} {
		r.Put(path, filepath.Join(system, path))
	}
	return r
}

func beginner(t *testing.T) *guide.Reader { return at(t, t.TempDir()) }

// newcomer has checked the repository out, and builds it.
func newcomer(t *testing.T) *guide.Reader {
	r := at(t, checkout(t))
	r.Stays["make run"] = serving
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GOFLAGS", "GOTOOLCHAIN").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, value := range strings.Split(string(bytes.TrimRight(out, "\n")), "\n") {
		r.Env = append(r.Env, []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GOFLAGS", "GOTOOLCHAIN"}[i]+"="+value)
	}
	return r
}

// checkout copies the sources: what a reader makes beside them is not to stay.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", ".tools", ".sidevault", "bin", "node_modules", "tools"}, d.Name()):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, name), 0o700)
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// besideDev has the development sidecar of docs/getting-started.md in another terminal.
func besideDev(t *testing.T) *guide.Reader {
	r := at(t, t.TempDir())
	start := guide.Read(t, filepath.Join(root, "docs/getting-started.md"))
	r.Follow(t, guide.Under(start, "A sidecar to try"))
	return r
}

// besides has a sidecar, and the admin's key.
func besides(t *testing.T, s *sidecar.Sidecar) *guide.Reader {
	r := at(t, t.TempDir())
	r.Env = append(r.Env, "SIDEVAULT_ADDR="+s.URL, "SIDEVAULT_TOKEN="+s.AdminKey)
	return r
}

// besideServices has credentials, and a service to start.
func besideServices(t *testing.T) *guide.Reader {
	s := binary.Serve(t)
	s.Admin().Put(slot("salesforce", "production"), value("x")).Wants(201)
	s.Admin().Put(slot("sftp", "production"), map[string]any{
		"fields": map[string]string{"host": "sftp.example.com", "username": "me", "password": "p"},
	}).Wants(201)
	r := besides(t, s)
	// It is given what the line says: one credential as variables, or all as files.
	service := "#!/bin/sh\ntest -n \"$SALESFORCE_VALUE\" -a -z \"$SFTP_HOST\" -o -s \"$SIDEVAULT_FILES/SFTP_HOST\"\n"
	if err := os.WriteFile(filepath.Join(r.Dir, "billing"), []byte(service), 0o700); err != nil {
		t.Fatal(err)
	}
	r.Stays["sidevault template -e production --watch"] = func(r *guide.Reader, said string) bool {
		return strings.Contains(said, "systemctl: reload app")
	}
	install(t, r, "systemctl", "#!/bin/sh\necho \"systemctl: $*\"\n")
	return r
}

// install gives a reader a program that at has left out.
func install(t *testing.T, r *guide.Reader, name, script string) {
	t.Helper()
	bin, _, _ := strings.Cut(strings.TrimPrefix(r.Env[0], "PATH="), ":")
	if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
}

// besideVault has a vault that can be backed up, and an identity to open it elsewhere.
func besideVault(t *testing.T) *guide.Reader {
	s := binary.Serve(t)
	s.Admin().Put(slot("salesforce", "production"), value("x")).Wants(201)
	r := besides(t, s)
	identity, err := os.ReadFile(s.File("identity.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"identity.txt", "recovery.txt"} {
		if err := os.WriteFile(filepath.Join(r.Dir, name), identity, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}
