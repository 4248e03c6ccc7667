// Package scaffold writes the module of a new plugin: one that builds, and passes its
// contract test. It neither runs the go command nor touches a file that exists.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// files are what a module consists of: template/all for every kind, and template/KIND.
//
//go:embed template
var files embed.FS

// Module says what to write.
type Module struct {
	Kind string // validator or syncer
	Name string // as the configuration is to name the plugin
	Path string // of the Go module; "": that of the program

	// Version is the version of Sidevault that the module requires, and Replace a
	// checkout to take it from instead.
	Version, Replace string
}

// Unreleased is the version to require along with Replace.
const Unreleased = "v0.0.0-00010101000000-000000000000"

// Kinds returns what a plugin can be.
func Kinds() []string { return []string{"validator", "syncer"} }

var (
	nameRE   = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)
	moduleRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9._~-]+)*$`)
)

// Program is the name of the executable, which the sidecar looks for when the
// configuration gives no path.
func (m Module) Program() string { return "sidevault-" + m.Kind + "-" + m.Name }

// Module is the path of the Go module.
func (m Module) Module() string {
	if m.Path == "" {
		return m.Program()
	}
	return m.Path
}

// Source is Replace as go.mod has it.
func (m Module) Source() string {
	if strings.ContainsAny(m.Replace, " \t\"'`,()[]{}") {
		return strconv.Quote(m.Replace)
	}
	return m.Replace
}

// Check reports what is wrong with the names.
func (m Module) Check() error {
	switch {
	case !slices.Contains(Kinds(), m.Kind):
		return fmt.Errorf("%q is neither %s", m.Kind, strings.Join(Kinds(), " nor "))
	case !nameRE.MatchString(m.Name):
		return fmt.Errorf("%q is not a name: use 1 to 63 of a-z 0-9 - _ with a letter or digit first and last", m.Name)
	case !moduleRE.MatchString(m.Module()):
		return fmt.Errorf("%q is not the path of a Go module, as in example.com/%s", m.Path, m.Program())
	case m.Version == "":
		return errors.New("no version of Sidevault to require")
	}
	return nil
}

// Write makes the module in a folder, which must not exist or be empty, and returns
// the names of the files.
func (m Module) Write(dir string) ([]string, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var names []string
	for _, from := range []string{"template/all", "template/" + m.Kind} {
		written, err := m.writeAll(from, dir)
		if err != nil {
			return nil, err
		}
		names = append(names, written...)
	}
	slices.Sort(names)
	return names, nil
}

func (m Module) writeAll(from, dir string) (names []string, err error) {
	templates, err := template.ParseFS(files, from+"/*.tmpl")
	if err != nil {
		return nil, err
	}
	for _, t := range templates.Templates() {
		name := strings.TrimSuffix(t.Name(), ".tmpl")
		if name == "gitignore" {
			name = ".gitignore"
		}
		if err := m.write(t, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func (m Module) write(t *template.Template, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, m), f.Close())
}
