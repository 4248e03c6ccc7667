package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sidevault/sidevault/plugins/scaffold"
)

type pluginNewOptions struct {
	sh                   *shell
	dir, module, replace string
}

func newPluginNewCommand(sh *shell) *cobra.Command {
	o := pluginNewOptions{sh: sh}
	cmd := &cobra.Command{
		Use:   "new validator|syncer NAME",
		Short: "Write the Go module of a new plugin",
		Long: `Write a Go module with a plugin that builds and passes its contract test, to be
changed into what it should be. It requires the version of Sidevault that this
program has. A development build has none that can be downloaded: it takes a checkout
of Sidevault with --replace.`,
		Example: `  sidevault plugin new validator acme
  sidevault plugin new syncer acme --module example.com/team/acme-sync --dir acme-sync`,
		Args:      operands("validator|syncer", "NAME"),
		ValidArgs: scaffold.Kinds(),
		RunE:      func(_ *cobra.Command, args []string) error { return o.run(args[0], args[1]) },
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "`directory` to write to, default sidevault-KIND-NAME; it must be empty or new")
	cmd.Flags().StringVar(&o.module, "module", "", "`path` of the Go module, default sidevault-KIND-NAME")
	cmd.Flags().StringVar(&o.replace, "replace", "", "`checkout` of Sidevault to build with")
	return cmd
}

func (o *pluginNewOptions) run(kind, name string) error {
	m := scaffold.Module{Kind: kind, Name: name, Path: o.module, Version: scaffold.Unreleased}
	var err error
	switch {
	case o.replace != "":
		m.Replace, err = checkout(o.replace)
	case released(version()):
		m.Version = version()
	default:
		err = usagef("this sidevault is a development build (%s): its module cannot be downloaded", version()).
			hinted("name a checkout of Sidevault with --replace DIR")
	}
	if err != nil {
		return err
	}
	if err := m.Check(); err != nil {
		return usagef("%s", err).hinted("sidevault plugin new validator|syncer NAME")
	}
	dir := o.dir
	if dir == "" {
		dir = m.Program()
	}
	if _, err := m.Write(dir); err != nil {
		return failf(exitError, "%s", err).hinted("name a new directory with --dir")
	}
	_, err = fmt.Fprintf(o.sh.out, `Wrote a %s to %s. Next:

  cd %s
  go mod tidy
  go test ./...
  go build -o %s . && sidevault plugin check ./%[4]s
`, kind, dir, quoted(dir), m.Program())
	return err
}

// checkout returns the absolute path of a checkout of Sidevault.
func checkout(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !strings.HasPrefix(string(text), "module github.com/sidevault/sidevault\n") {
		return "", usagef("%s is no checkout of Sidevault: its go.mod is missing or another one", dir).
			hinted("name the directory that has Sidevault's go.mod with --replace")
	}
	return filepath.Abs(dir)
}

var releaseRE = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[a-z]+(\.[0-9]+)?)?$`)

// released reports whether a version is a tag, and no commit between two.
func released(version string) bool { return releaseRE.MatchString(version) }
