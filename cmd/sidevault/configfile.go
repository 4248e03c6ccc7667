package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault/catalog"
	"github.com/sidevault/sidevault/vault/suggest"
)

// maxConfig is the most that a configuration file may hold, in bytes.
const maxConfig = 256 << 10

// configFile is what a YAML file sets: a string or a list of strings under each
// setting's key, and where it stands.
type configFile struct {
	values map[string]any
	places map[string]string
	mode   fs.FileMode
}

// configReader collects everything that is wrong with a file.
type configReader struct {
	path     string
	file     configFile
	problems []error
}

// readConfig reads a configuration file strictly: unknown keys, keys given twice,
// anchors and whatever else could make it mean more than it says are errors, each
// with its line and column.
func readConfig(path string) (configFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return configFile{}, failf(exitUsage, "read the configuration").because(err)
	}
	defer f.Close()
	info, statErr := f.Stat()
	data, err := readLimited(f, maxConfig)
	if err := errors.Join(statErr, err); err != nil {
		return configFile{}, failf(exitUsage, "read the configuration").because(err)
	}
	file, err := parseConfig(path, data)
	file.mode = info.Mode()
	return file, err
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readLimited(f, limit)
}

func readLimited(f *os.File, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", f.Name(), limit)
	}
	return data, err
}

func parseConfig(path string, data []byte) (configFile, error) {
	r := &configReader{path: path, file: configFile{values: map[string]any{}, places: map[string]string{}}}
	if root := r.parse(data); root != nil && len(r.problems) == 0 {
		r.mapping(root, "")
	}
	if len(r.problems) > 0 {
		return configFile{}, usagef("%s", errors.Join(r.problems...))
	}
	return r.file, nil
}

// maxProblems bounds what is said about one file.
const maxProblems = 20

func (r *configReader) fail(tk *token.Token, format string, args ...any) {
	if len(r.problems) == maxProblems {
		return
	}
	r.problems = append(r.problems, fmt.Errorf("%s: %s", r.place(tk), fmt.Sprintf(format, args...)))
}

func (r *configReader) place(tk *token.Token) string {
	if tk == nil || tk.Position == nil {
		return r.path
	}
	return fmt.Sprintf("%s:%d:%d", r.path, tk.Position.Line, tk.Position.Column)
}

// parse returns the file's only document. The YAML library panics on some input.
func (r *configReader) parse(data []byte) (root ast.Node) {
	defer func() {
		if recover() != nil {
			r.fail(nil, "not YAML that can be read")
		}
	}()
	tokens := lexer.Tokenize(string(bytes.TrimPrefix(data, []byte("\ufeff"))))
	if r.screen(tokens); len(r.problems) > 0 {
		return nil
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		r.syntax(err)
		return nil
	}
	if len(file.Docs) > 0 {
		root = file.Docs[0].Body
	}
	if _, comment := root.(*ast.CommentGroupNode); comment {
		return nil
	}
	return root
}

// screen reports what a configuration has no use for. A second document is looked for
// here, since the parser drops one that follows an empty one.
func (r *configReader) screen(tokens token.Tokens) {
	if tk, msg := catalog.CheckShape(tokens); tk != nil {
		r.fail(tk, "%s", msg)
		return
	}
	begun := false
	for i, tk := range tokens {
		if after := i > 0 && tokens[i-1].Type == token.DocumentEndType; after || begun && tk.Type == token.DocumentHeaderType {
			r.fail(tk, "a second document: a configuration file has one")
			return
		}
		begun = begun || tk.Type != token.CommentType
		switch tk.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			r.fail(tk, "anchors and aliases are not accepted: write the value out, or quote it if it is text")
		case token.TagType, token.DirectiveType:
			r.fail(tk, "tags and directives are not accepted: quote the value if it is text")
		}
	}
}

// syntax reports the parser's message alone: its full text is an excerpt of the
// file over several lines.
func (r *configReader) syntax(err error) {
	if e, ok := errors.AsType[yaml.Error](err); ok {
		msg, _, _ := strings.Cut(e.GetMessage(), "\n")
		r.fail(e.GetToken(), "%s", msg)
		return
	}
	r.fail(nil, "not YAML")
}

// mapping reads the keys below a section; the file itself is the section "".
func (r *configReader) mapping(n ast.Node, section string) {
	m, ok := n.(ast.MapNode)
	if !ok {
		r.fail(n.GetToken(), "%sa mapping is expected", prefixed(section))
		return
	}
	for it := m.MapRange(); it.Next(); {
		r.member(it.Key().GetToken(), section, it.Value())
	}
}

func prefixed(section string) string {
	if section == "" {
		return ""
	}
	return strings.TrimSuffix(section, ".") + ": "
}

func (r *configReader) member(tk *token.Token, section string, v ast.Node) {
	key := section + tk.Value
	known := siblings(section)
	for _, s := range table() {
		switch {
		case s.key == key:
			r.file.places[key] = r.place(tk)
			r.setting(s, tk, v)
			return
		case strings.HasPrefix(s.key, key+"."):
			r.mapping(v, key+".")
			return
		}
	}
	r.fail(tk, "unknown key %q%s", tk.Value, suggest.Hint(tk.Value, known))
}

// siblings returns the keys that a section may have.
func siblings(section string) []string {
	var names []string
	for _, s := range table() {
		if rest, ok := strings.CutPrefix(s.key, section); ok {
			name, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (r *configReader) setting(s setting, tk *token.Token, v ast.Node) {
	if !s.list {
		if text, ok := r.scalar(s.key, tk, v); ok {
			r.file.values[s.key] = r.resolve(s, text)
		}
		return
	}
	items := []string{}
	if s.entry != nil {
		r.members(s.key, tk, v, func(name *token.Token, v ast.Node) { items = append(items, s.entry(r, name, v)) })
		r.file.values[s.key] = items
		return
	}
	list, ok := v.(*ast.SequenceNode)
	if text, single := v.(*ast.StringNode); single && s.orOne {
		r.file.values[s.key] = []string{r.resolve(s, text.Value)}
		return
	}
	if !ok {
		r.fail(tk, "%s: a list is expected, as in [a, b]", s.key)
		return
	}
	for _, item := range list.Values {
		if _, isMap := item.(ast.MapNode); isMap && s.item != nil {
			items = append(items, s.item(r, item))
		} else if text, ok := r.scalar(s.key, tk, item); ok {
			items = append(items, r.resolve(s, text))
		}
	}
	r.file.values[s.key] = items
}

// resolve makes a path in the file relative to the file, not to wherever the
// program was started.
func (r *configReader) resolve(s setting, text string) string {
	if !s.path || text == "" || filepath.IsAbs(text) || strings.Contains(text, "://") {
		return text
	}
	return filepath.Join(filepath.Dir(r.path), text)
}

// texts reads a list of single values.
func (r *configReader) texts(key string, tk *token.Token, v ast.Node) []string {
	list, ok := v.(*ast.SequenceNode)
	if !ok {
		r.fail(tk, "%s: a list is expected, as in [a, b]", key)
		return nil
	}
	items := []string{}
	for _, item := range list.Values {
		if text, ok := r.scalar(key, tk, item); ok {
			items = append(items, text)
		}
	}
	return items
}

func (r *configReader) scalar(key string, tk *token.Token, v ast.Node) (string, bool) {
	switch v := v.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return v.GetToken().Value, true
	case nil, *ast.NullNode:
		r.fail(tk, "%s: a value is missing: give one, or leave the key out", key)
	default:
		r.fail(v.GetToken(), "%s: a single value is expected", key)
	}
	return "", false
}

const (
	environmentsKey = "environments"
	recipientsKey   = "recipients"
)

// environment reads {name, parent, protected, recipients} and returns it as the flag
// spells it.
func (r *configReader) environment(n ast.Node) string {
	var e envs.Environment
	for it := n.(ast.MapNode).MapRange(); it.Next(); {
		tk := it.Key().GetToken()
		if tk.Value == recipientsKey {
			e.Recipients = r.texts(recipientsKey, tk, it.Value())
			continue
		}
		text, ok := r.scalar(tk.Value, tk, it.Value())
		switch {
		case !ok:
		case strings.ContainsAny(text, ":,"):
			r.fail(tk, "%s: %q is not a name", tk.Value, text)
		case tk.Value == "name":
			e.Name = text
		case tk.Value == "parent":
			e.Parent = text
		case tk.Value == protectedMark && (text == "true" || text == "false"):
			e.Protected = text == "true"
		case tk.Value == protectedMark:
			r.fail(tk, "protected: true or false is expected")
		default:
			r.fail(tk, "unknown key %q%s", tk.Value, suggest.Hint(tk.Value, []string{"name", "parent", protectedMark, recipientsKey}))
		}
	}
	return spellEnvironment(e)
}

func spellEnvironment(e envs.Environment) string {
	text := e.Name
	if e.Parent != "" {
		text += ":" + parentMark + e.Parent
	}
	if e.Protected {
		text += ":" + protectedMark
	}
	for _, r := range e.Recipients {
		text += ":" + recipientMark + r
	}
	return text
}
