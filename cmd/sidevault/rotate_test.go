package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault/seal"
)

func TestRotateRoot(t *testing.T) {
	t.Parallel()
	dir, keyFile := makeVault(t)
	trust := readFile(t, filepath.Join(dir, trustFile))
	fresh := filepath.Join(t.TempDir(), "new.txt")
	sidevault(t, "rotate", "root", "--data-dir", dir).wants(t, exitUsage, "--new-identity")
	sidevault(t, "rotate", "root", "--new-identity", fresh, "--data-dir", dir).wants(t, exitOK, "--identity "+fresh)
	third := filepath.Join(t.TempDir(), "third.txt")
	again := sidevault(t, "rotate", "root", "--new-identity", third, "--data-dir", dir, "--identity", fresh, "--json")
	again.wants(t, exitOK)
	want := rotatedRoot{From: recipientsIn(t, fresh), To: recipientsIn(t, third), Identity: third}
	if diff := cmp.Diff(want, decoded[rotatedRoot](t, again.out)); diff != "" {
		t.Error(diff)
	}
	fresh = third
	sidevault(t, "env", "keys", "--data-dir", dir).wants(t, exitError, "made for another identity")
	if readFile(t, filepath.Join(dir, trustFile)) != trust {
		t.Error("the trust anchor has changed")
	}
	startServe(t, keyFile, "--data-dir", dir, "--identity", fresh).cli(t, "", "env", "list").wants(t, exitOK, "production")
}

func TestRotateEnvironment(t *testing.T) {
	t.Parallel()
	dir, keyFile := makeVault(t)
	s := startServe(t, keyFile, "--data-dir", dir)
	s.cli(t, "s3cret", "set", "salesforce", "-e", "staging").wants(t, exitOK)
	s.cli(t, "", "rotate", "environment", "staging").wants(t, exitOK, "key 2 is in force")
	s.cli(t, "", "rotate", "environment", "--all").wants(t, exitOK, "Rotated staging: key 3", "Rotated @shared: key 2")
	s.cli(t, "", "get", "salesforce", "-e", "staging").wants(t, exitOK, "s3cret")
	s.cli(t, "", "rotate", "environment", "nowhere").wants(t, exitUsage, "nowhere")
	s.cli(t, "", "audit", "list", "--action", "rotate_environment_key").wants(t, exitOK, "rotate_environment_key")
	online := s.cli(t, "", "rotate", "environment", "staging", "--json")
	online.wants(t, exitOK)
	rotated(t, online.out, "staging", 4)
	if code := s.signalled(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	offline := sidevault(t, "rotate", "environment", "staging", "--offline", "--data-dir", dir, "--json")
	offline.wants(t, exitOK)
	rotated(t, offline.out, "staging", 5)
	sidevault(t, "rotate", "environment", "@shared", "--offline", "--data-dir", dir).wants(t, exitOK, "Rotated @shared: key 3 is in force")
}

// rotated wants one rotation to be told, as the sidecar tells it.
func rotated(t *testing.T, out, environment string, key int) {
	t.Helper()
	list := decoded[[]wire.Rotation](t, out)
	if len(list) != 1 || !strings.HasPrefix(list[0].Recipient, "age1") {
		t.Fatalf("%d rotations, or no recipient: %s", len(list), out)
	}
	want := wire.Rotation{Environment: &environment, Key: key, Recipient: list[0].Recipient}
	if diff := cmp.Diff(want, list[0]); diff != "" {
		t.Error(diff)
	}
}

func decoded[T any](t *testing.T, out string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return v
}

func recipientsIn(t *testing.T, path string) []string {
	t.Helper()
	ids, err := readIdentity(path, seal.Prompts{})
	if err != nil {
		t.Fatal(err)
	}
	own, err := recipientsOf(ids)
	if err != nil {
		t.Fatal(err)
	}
	return own
}
