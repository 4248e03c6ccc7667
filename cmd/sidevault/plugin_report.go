package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sidevault/sidevault/plugins/plugintest/contract"
)

// printReport prints how a program stands to the contract. It uses no colour.
func printReport(w io.Writer, p contract.Program, r contract.Report) {
	about := strings.TrimSpace(r.Name + " " + r.Version)
	fmt.Fprintf(w, "%s\n", strings.Join(slices.DeleteFunc([]string{p.Path, string(r.Kind), about}, func(s string) bool { return s == "" }), ", "))
	for _, result := range r.Results {
		fmt.Fprintf(w, "  %-8s %s\n", mark(result.Status), result.Name)
		switch result.Status {
		case contract.Failed:
			fmt.Fprintf(w, "             demanded: %s\n             found:    %s\n             to do:    %s\n",
				result.Demand, oneLine(result.Reason), result.Advice)
		case contract.Skipped:
			fmt.Fprintf(w, "             %s\n", oneLine(result.Reason))
		}
	}
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", r.Count(contract.Passed), r.Count(contract.Failed), r.Count(contract.Skipped))
}

func mark(s contract.Status) string {
	if s == contract.Failed {
		return "FAIL"
	}
	return string(s)
}

// printProgram prints what the configuration needs to know of a program.
func printProgram(w io.Writer, p contract.Program, r contract.Report, sum string) error {
	if !r.OK() {
		_, err := fmt.Fprintf(w, "\nSHA-256: %s\n", sum)
		return err
	}
	fmt.Fprintf(w, "\nFor sidevault.yaml:\n\nplugins:\n  programs:\n    %s:\n      path: %s\n      sha256: %q\n",
		programName(p, r), yamlText(p.Path), sum)
	if len(p.Args) > 0 {
		fmt.Fprintf(w, "      args: %s\n", yamlText(p.Args))
	}
	if len(p.Env) > 0 {
		env := map[string]string{}
		for _, variable := range p.Env {
			name, value, _ := strings.Cut(variable, "=")
			env[name] = value
		}
		fmt.Fprintf(w, "      env: %s\n", yamlText(env))
	}
	files, err := scripts(p)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		fmt.Fprintf(w, "      files: %s\n", yamlText(files))
	}
	if interpreted(p.Path) || len(files) > 0 {
		fmt.Fprintf(w, "      # Add each module that the script loads to files, with its SHA-256, and to read what else it needs.\n")
	}
	return nil
}

// programName is what the program is called in the configuration.
func programName(p contract.Program, r contract.Report) string {
	if programNameRE.MatchString(r.Name) {
		return r.Name
	}
	base := filepath.Base(p.Path)
	for _, prefix := range []string{"sidevault-validator-", "sidevault-syncer-"} {
		base = strings.TrimPrefix(base, prefix)
	}
	if programNameRE.MatchString(base) {
		return base
	}
	return "NAME"
}

// scripts are the arguments that name files, with their SHA-256: the program is then
// an interpreter.
func scripts(p contract.Program) (map[string]string, error) {
	files := map[string]string{}
	for _, arg := range p.Args {
		info, err := os.Stat(arg)
		if err != nil || !filepath.IsAbs(arg) || !info.Mode().IsRegular() {
			continue
		}
		if files[arg], err = fileSum(arg); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// interpreted reports whether the file is a script.
func interpreted(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	begin := make([]byte, 2)
	_, err = io.ReadFull(f, begin)
	return err == nil && string(begin) == "#!"
}

// yamlText is a value as YAML takes it: JSON is YAML.
func yamlText(v any) string {
	if s, ok := v.(string); ok && quoted(s) == s && strings.HasPrefix(s, "/") && !strings.ContainsAny(s, ":%,@=") {
		return s
	}
	text, err := json.Marshal(v)
	if err != nil {
		return `""`
	}
	return string(text)
}
