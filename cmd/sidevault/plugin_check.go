package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/plugins/plugintest/contract"
	"github.com/sidevault/sidevault/vault/secret"
)

type pluginCheckOptions struct {
	sh                *shell
	kind              string
	config, good, bad string // files
	env               []string
	form              output
}

func newPluginCheckCommand(sh *shell) *cobra.Command {
	o := pluginCheckOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "check PATH [-- ARGS]",
		Short: "Hold a plugin's program to the contract",
		Long: `Start a program as the sidecar would, without its sandbox, and check that it keeps
the contract of plugins: that it answers in time, survives what is malformed, gives
no secret away, ends when it is told to. It needs no sidecar. A syncer really syncs:
configure it for a system to test with.

--good and --bad name files with credentials whose verdict is known, as JSON:

  [{"value": "acme_0123"}, {"name": "old", "fields": {"user": "u", "key": "k"}, "config": {}}]`,
		Example: `  sidevault plugin check ./sidevault-validator-acme --good good.json --bad bad.json
  sidevault plugin check /usr/bin/python3 -- /opt/acme/main.py`,
		Args: programAndArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0], args[1:]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.kind, "kind", "", "`kind` of the plugin: validator or syncer; default what it says itself")
	flags.StringVar(&o.config, "config", "", "`file` with the config of a binding, a JSON object")
	flags.StringVar(&o.good, "good", "", "`file` with credentials that it must accept")
	flags.StringVar(&o.bad, "bad", "", "`file` with credentials that it must refuse")
	flags.StringArrayVar(&o.env, "env", nil, "a variable for it, as `NAME=VALUE`; repeat it for more")
	addOutputFlags(cmd, &o.form)
	return cmd
}

// programAndArgs takes one argument, and any number after --.
func programAndArgs(cmd *cobra.Command, args []string) error {
	own := args
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		own = args[:dash]
	}
	return operands("PATH")(cmd, own)
}

func (o *pluginCheckOptions) run(cmd *cobra.Command, path string, args []string) error {
	p, err := o.program(path, args)
	if err != nil {
		return err
	}
	sum, err := fileSum(p.Path)
	if err != nil {
		return usagef("%s", err)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report := contract.Check(ctx, p)
	if err := o.print(p, report, sum); err != nil {
		return err
	}
	if failed := report.Count(contract.Failed); failed > 0 {
		return failf(exitError, "%d of %d checks failed", failed, len(report.Results)).hinted("the contract is in docs/plugins.md")
	}
	return nil
}

func (o *pluginCheckOptions) print(p contract.Program, report contract.Report, sum string) error {
	if o.form.forPrograms() {
		return o.form.print(o.sh.out, struct {
			Path   string `json:"path"`
			SHA256 string `json:"sha256"`
			OK     bool   `json:"ok"`
			contract.Report
		}{p.Path, sum, report.OK(), report})
	}
	printReport(o.sh.out, p, report)
	return printProgram(o.sh.out, p, report, sum)
}

// program is what the command line says of the program.
func (o *pluginCheckOptions) program(path string, args []string) (p contract.Program, err error) {
	p = contract.Program{Path: path, Args: args, Env: o.env, Kind: contract.Kind(o.kind)}
	if p.Kind != "" && p.Kind != contract.Validator && p.Kind != contract.Syncer {
		return p, usagef("--kind: %q is neither validator nor syncer", o.kind)
	}
	for _, variable := range o.env {
		if name, _, ok := strings.Cut(variable, "="); !ok || name == "" {
			return p, usagef("--env: a variable is not of the form NAME=VALUE")
		}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return p, usagef("%s", err)
	case !info.Mode().IsRegular():
		return p, usagef("%s is not a file", path)
	case info.Mode().Perm()&0o111 == 0:
		return p, usagef("%s is not executable", path).hinted("chmod +x %s", quoted(path))
	}
	if p.Path, err = filepath.Abs(path); err != nil {
		return p, err
	}
	if p.Config, err = readBindingConfig(o.config); err != nil {
		return p, err
	}
	if p.Good, err = readCredentials("--good", o.good); err != nil {
		return p, err
	}
	p.Bad, err = readCredentials("--bad", o.bad)
	return p, err
}

const maxCheckFile = 1 << 20

func readBindingConfig(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := readBounded(path, maxCheckFile)
	if err != nil {
		return "", usagef("--config").because(err)
	}
	var object map[string]any
	if json.Unmarshal(text, &object) != nil || object == nil {
		return "", usagef("--config: %s is not a JSON object", path).hinted(`write it as in {"prefix": "acme_"}`)
	}
	return string(text), nil
}

// checkCredential is one of a file's.
type checkCredential struct {
	Name     string                  `json:"name"`
	Value    *secret.Value           `json:"value"`
	Fields   map[string]secret.Value `json:"fields"`
	AuthType string                  `json:"authType"`
	Config   json.RawMessage         `json:"config"`
}

// readCredentials reads a file of credentials. What the decoder says is left out: it
// could quote one.
func readCredentials(flag, path string) ([]contract.Credential, error) {
	if path == "" {
		return nil, nil
	}
	text, err := readBounded(path, maxCheckFile)
	if err != nil {
		return nil, usagef("%s", flag).because(err)
	}
	defer clear(text)
	list, err := decodeCredentials(text)
	if err != nil {
		return nil, usagef("%s: %s %s", flag, path, err).
			hinted(`write it as in [{"value": "..."}, {"fields": {"user": "...", "key": "..."}}]`)
	}
	return list, nil
}

func decodeCredentials(text []byte) ([]contract.Credential, error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	var read []checkCredential
	if err := d.Decode(&read); err != nil {
		return nil, errors.New("is not a JSON list of credentials with name, value or fields, authType and config")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("has something after the list")
	}
	if len(read) == 0 {
		return nil, errors.New("has no credentials")
	}
	var list []contract.Credential
	for i, r := range read {
		c := contract.Credential{Name: r.Name, Fields: r.Fields, AuthType: r.AuthType, Config: string(r.Config)}
		switch {
		case (r.Value == nil) == (len(r.Fields) == 0):
			return nil, fmt.Errorf("has neither a value nor fields, or both, in credential %d", i+1)
		case r.Value != nil:
			c.Fields = map[string]secret.Value{"value": *r.Value}
		}
		list = append(list, c)
	}
	return list, nil
}
