package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

var executedRE = regexp.MustCompile("<!-- executed -->\n```sh\n((?s).*?)```")

// What docs/run.md says to type works.
func TestRunDocument(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t)
	fillVault(t, p)
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "sidevault")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "billing"), "#!/bin/sh\ntest -n \"$SALESFORCE_VALUE\" -a -z \"$SFTP_HOST\"\n", 0o700)
	blocks := executedRE.FindAllStringSubmatch(readFile(t, "../../docs/run.md"), -1)
	if len(blocks) < 4 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, block := range blocks {
		cmd := exec.Command("bash", "-eu", "-o", "pipefail", "-c", block[1])
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), asProgram+"=1", "PATH="+dir+":"+os.Getenv("PATH"), addrVariable+"="+p.addr, tokenFileVariable+"="+p.keyFile)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, block[1], out)
		}
	}
}
