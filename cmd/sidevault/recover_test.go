package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// What sidevault recover prints is what docs/recovery.md says.
func TestRecipesAreThoseOfTheDocument(t *testing.T) {
	sections := map[string]string{}
	for _, s := range strings.Split(readFile(t, "../../docs/recovery.md"), "\n## ")[1:] {
		title, body, _ := strings.Cut(s, "\n")
		for _, m := range shellBlock.FindAllStringSubmatch(body, -1) {
			sections[title] += m[1]
		}
	}
	for title, recipe := range map[string]string{
		"With the bbolt command alone": recipeFile, "From a backup": recipeBackup, "Everything in a backup": recipeAll,
	} {
		if sections[title] != recipe {
			t.Errorf("%s: the document has another recipe", title)
		}
	}
}

func TestRecover(t *testing.T) {
	t.Parallel()
	sidevault(t, "recover").wants(t, exitUsage, "INTEGRATION or --backup is missing")
	sidevault(t, "recover", "", "--backup", "/b.age").wants(t, exitUsage, "INTEGRATION or --backup is missing")
	sidevault(t, "recover", "sftp", "--data-dir", "/srv/it's").wants(t, exitOK, `data='/srv/it'\''s'`, "environment=@shared", "bbolt get")
	sidevault(t, "recover", "sftp", "-e", "staging", "--backup", "/b.age", "--identity", "/id").wants(t, exitOK, "backup=/b.age", "identity=/id", "environment=staging")
	shared := writeFile(t, filepath.Join(t.TempDir(), "sidevault.yaml"), "backend: etcd://e1:2379/sidevault\n", 0o600)
	sidevault(t, "recover", "sftp", "--config", shared).wants(t, exitUsage, "etcd://", "--backup FILE")
	sidevault(t, "recover", "sftp", "--config", shared, "--backup", "/b.age").wants(t, exitOK, "backup=/b.age")
	sidevault(t, "recover", "--backup", "/b.age").wants(t, exitOK, "credentials.jsonl")
	printed := sidevault(t, "recover", "sftp", "-e", "staging", "--backup", "/b.age", "--identity", "/id")
	printed.wants(t, exitOK)
	told := sidevault(t, "recover", "sftp", "-e", "staging", "--backup", "/b.age", "--identity", "/id", "-o", "json")
	told.wants(t, exitOK)
	want := recoveryRecipe{Identity: "/id", Integration: "sftp", Environment: "staging", Backup: "/b.age", Recipe: printed.out}
	if diff := cmp.Diff(want, decoded[recoveryRecipe](t, told.out)); diff != "" {
		t.Error(diff)
	}
}
