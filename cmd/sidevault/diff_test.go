package main

import (
	"strings"
	"testing"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	p, _ := protectedVault(t)
	p.cli(t, "", "diff", "staging", "production").wants(t, exitOK, "have the same credentials set")
	for _, c := range [][]string{
		{"slack", "-e", "staging"}, {"slack", "-e", "production"}, {"slack", "-e", "production"},
		{"salesforce", "-e", "staging"}, {"openai"}, {"openai", "-e", "production"}, {"notion"},
		{"servicenow", "-e", "production", "--name", "emea"}, {"zendesk", "-e", "staging"}, {"zendesk", "-e", "production"},
	} {
		value := "c4n4ry"
		if c[0] == "openai" {
			value = "sk-c4n4ry"
		}
		p.cli(t, value, append([]string{"set"}, c...)...).wants(t, exitOK)
	}
	id := p.cli(t, "", "status", "zendesk", "-e", "staging")
	for line := range strings.Lines(id.out) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == "id" {
			p.cli(t, "", "credential", "update", strings.TrimSpace(value), "--status", "inactive").wants(t, exitOK)
		}
	}
	got := p.cli(t, "", "diff", "staging", "production")
	got.wants(t, exitOK, "STAGING", "PRODUCTION", "only in staging", "only in production", "emea", "staging falls back to @shared",
		"one is inactive, the other active", "missing", "version 1, ", "s old")
	for _, hidden := range []string{"c4n4ry", "slack", "notion"} {
		if strings.Contains(got.out, hidden) {
			t.Errorf("%s is shown", hidden)
		}
	}
	p.cli(t, "", "diff", "staging", "production", "--all").wants(t, exitOK, "slack", "version 2", "notion")
	p.cli(t, "", "diff", "staging", "production", "--exit-code").wants(t, exitError, "differ in 4 credentials")
	p.cli(t, "", "diff", "staging", "staging", "--exit-code").wants(t, exitOK)
	p.cli(t, "", "diff", "staging", "@shared", "--json").wants(t, exitOK, `"difference": "only in staging"`, `"left"`)
	p.cli(t, "", "diff", "staging", "prod").wants(t, exitUsage, `no environment "prod"`, "production")
	p.cli(t, "", "diff", "staging").wants(t, exitUsage, "ENVIRONMENT is missing")
}
