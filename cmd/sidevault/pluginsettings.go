package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/sidevault/sidevault/plugins/host"
	"github.com/sidevault/sidevault/vault/suggest"
)

const (
	programsKey      = "plugins.programs"
	defaultPluginDir = "/usr/lib/sidevault/plugins"
	maxInstances     = 16
	maxCalls         = 256
)

// pluginSettings are the settings of plugins.
func pluginSettings() []setting {
	return []setting{
		{key: "plugins.dir", path: true, def: []string{defaultPluginDir},
			help:  "`directory` of the plugins' programs",
			apply: text(func(c *settings) *string { return &c.PluginDir })},
		{key: "plugins.sandbox", def: []string{"auto"},
			help:  "`whether` plugins are confined: auto (where the kernel can), required (not run where it cannot) or off",
			apply: applySandbox},
		{key: programsKey, list: true, fileOnly: true, entry: (*configReader).program,
			help:  "the plugins, by name; read again on SIGHUP; see below",
			apply: applyPrograms},
	}
}

func applySandbox(c *settings, v []string) error {
	var s string
	if err := oneOf(func(*settings) *string { return &s }, "auto", string(host.Required), string(host.Off))(c, v); err != nil {
		return err
	}
	if c.Sandbox = host.Sandbox(s); s == "auto" {
		c.Sandbox = host.Auto
	}
	return nil
}

// programSpec is a program as the configuration file has it. Its Path may be
// relative to the plugins' directory, or missing; other paths are absolute.
type programSpec struct {
	Name             string
	At               string // where it stands
	Path             string
	Args             []string
	SHA256           string
	Env, Files       map[string]string
	Read             []string
	User             string
	Instances, Calls int
	Eager            bool
}

// applyPrograms takes the programs as configReader.program has spelled them.
func applyPrograms(c *settings, v []string) error {
	c.Programs = nil
	for _, s := range v {
		var p programSpec
		if err := json.Unmarshal([]byte(s), &p); err != nil {
			return err
		}
		c.Programs = append(c.Programs, p)
	}
	return nil
}

// programKey is one of the keys of a program, with what docs/configuration.md says
// of it.
type programKey struct {
	key, kind, help string
	read            func(r *configReader, p *programSpec, tk *token.Token, v ast.Node)
}

func programKeys() []programKey {
	return []programKey{
		{"path", "path", "of the program, relative to plugins.dir; sidevault-validator-NAME or sidevault-syncer-NAME, whichever is there, unless given",
			readText(func(p *programSpec) *string { return &p.Path })},
		{"sha256", "text", "the program's SHA-256, 64 hexadecimal digits: another program is not run. Required, but with serve --dev",
			func(r *configReader, p *programSpec, tk *token.Token, v ast.Node) { p.SHA256 = r.sum("sha256", tk, v) }},
		{"args", "list", "arguments",
			func(r *configReader, p *programSpec, tk *token.Token, v ast.Node) { p.Args = r.texts("args", tk, v) }},
		{"files", "mapping", "further files by path, relative to this file, each with its SHA-256: the script and modules of an interpreter",
			readFiles},
		{"env", "mapping", "its environment variables: it gets no others of the sidecar's. Not for secrets: name a file that is in read",
			readEnv},
		{"read", "list", "further paths, relative to this file, that it may read",
			func(r *configReader, p *programSpec, tk *token.Token, v ast.Node) {
				for _, path := range r.texts("read", tk, v) {
					p.Read = append(p.Read, r.beside(path))
				}
			}},
		{"user", "text", "runs it, when the sidecar is root; the sidecar's own user unless given",
			readText(func(p *programSpec) *string { return &p.User })},
		{"instances", "number", fmt.Sprintf("processes at most, 1 to %d; 1 unless given", maxInstances),
			readNumber("instances", maxInstances, func(p *programSpec) *int { return &p.Instances })},
		{"calls", "number", fmt.Sprintf("calls at once, 1 to %d; 16 unless given", maxCalls),
			readNumber("calls", maxCalls, func(p *programSpec) *int { return &p.Calls })},
		{"eager", "boolean", "true starts it with the sidecar, not when it is first called; false unless given",
			readEager},
	}
}

var programNameRE = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$`)

// program reads a program and returns it as applyPrograms takes it.
func (r *configReader) program(name *token.Token, n ast.Node) string {
	p := programSpec{Name: name.Value, At: r.place(name)}
	if !programNameRE.MatchString(p.Name) {
		r.fail(name, "%s: %q is not a name: use 1 to 63 of a-z 0-9 - _ with a letter or digit first and last", programsKey, p.Name)
	}
	switch m := n.(type) {
	case nil, *ast.NullNode:
	case ast.MapNode:
		for it := m.MapRange(); it.Next(); {
			r.programMember(&p, it.Key().GetToken(), it.Value())
		}
	default:
		r.fail(n.GetToken(), "%s.%s: a mapping is expected", programsKey, p.Name)
	}
	spelled, err := json.Marshal(p)
	if err != nil {
		r.fail(name, "%s", err)
	}
	return string(spelled)
}

func (r *configReader) programMember(p *programSpec, tk *token.Token, v ast.Node) {
	var known []string
	for _, k := range programKeys() {
		if k.key == tk.Value {
			k.read(r, p, tk, v)
			return
		}
		known = append(known, k.key)
	}
	r.fail(tk, "unknown key %q%s", tk.Value, suggest.Hint(tk.Value, known))
}

func readText(at func(*programSpec) *string) func(*configReader, *programSpec, *token.Token, ast.Node) {
	return func(r *configReader, p *programSpec, tk *token.Token, v ast.Node) {
		s, ok := r.scalar(tk.Value, tk, v)
		if *at(p) = s; ok && s == "" {
			r.fail(tk, "%s: it is empty: give a value, or leave the key out", tk.Value)
		}
	}
}

func readNumber(key string, most int, at func(*programSpec) *int) func(*configReader, *programSpec, *token.Token, ast.Node) {
	return func(r *configReader, p *programSpec, tk *token.Token, v ast.Node) {
		s, ok := r.scalar(key, tk, v)
		n, err := strconv.Atoi(s)
		if ok && (err != nil || n < 1 || n > most) {
			r.fail(tk, "%s: %q is not a number from 1 to %d", key, s, most)
		}
		*at(p) = n
	}
}

func readEager(r *configReader, p *programSpec, tk *token.Token, v ast.Node) {
	b, ok := v.(*ast.BoolNode)
	if !ok {
		r.fail(tk, "eager: true or false is expected")
		return
	}
	p.Eager = b.Value
}

func readEnv(r *configReader, p *programSpec, tk *token.Token, v ast.Node) {
	p.Env = map[string]string{}
	r.members("env", tk, v, func(name *token.Token, v ast.Node) {
		p.Env[name.Value], _ = r.scalar("env."+name.Value, name, v)
	})
}

func readFiles(r *configReader, p *programSpec, tk *token.Token, v ast.Node) {
	p.Files = map[string]string{}
	r.members("files", tk, v, func(path *token.Token, v ast.Node) {
		p.Files[r.beside(path.Value)] = r.sum("files."+path.Value, path, v)
	})
}

// members reads a mapping whose keys are the operator's.
func (r *configReader) members(key string, tk *token.Token, v ast.Node, read func(*token.Token, ast.Node)) {
	m, ok := v.(ast.MapNode)
	if !ok {
		r.fail(tk, "%s: a mapping is expected", key)
		return
	}
	for it := m.MapRange(); it.Next(); {
		read(it.Key().GetToken(), it.Value())
	}
}

var sumRE = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)

func (r *configReader) sum(key string, tk *token.Token, v ast.Node) string {
	s, ok := r.scalar(key, tk, v)
	if ok && !sumRE.MatchString(s) {
		r.fail(tk, "%s: 64 hexadecimal digits are expected, as sha256sum prints them", key)
	}
	return s
}

// beside returns a path as it is meant in this file: relative to the file.
func (r *configReader) beside(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	abs, err := filepath.Abs(filepath.Join(filepath.Dir(r.path), path))
	if err != nil {
		r.fail(nil, "%s", err)
	}
	return abs
}
