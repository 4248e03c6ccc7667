package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"unicode"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

// document is a template in which credentials are functions.
type document struct {
	template *template.Template
	text     string
	defaults client.Slot
	warn     *shell

	mu   sync.Mutex
	used map[string]bool // integrations, by the last rendering
}

// documentName stands for the file in what text/template says.
const documentName = "t"

// parseDocument parses a template. The environment and name of the slot are those of
// credentials that name none.
func parseDocument(text []byte, defaults client.Slot) (*document, error) {
	d := &document{text: string(text), defaults: defaults}
	var err error
	none := (&reading{}).functions()
	d.template, err = template.New(documentName).Option("missingkey=error").Funcs(none).Parse(d.text)
	if err != nil {
		// No value is known yet that this could quote.
		_, why, _ := strings.Cut(err.Error(), documentName+":")
		return nil, usagef("line %s", oneLine(why))
	}
	return d, nil
}

// render returns the text, or nothing.
func (d *document) render(ctx context.Context, c *client.Client) ([]byte, error) {
	r := &reading{ctx: ctx, client: c, document: d, found: map[string]wire.Resolved{}, used: map[string]bool{}}
	t, err := d.template.Clone()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Funcs(r.functions()).Execute(&out, nil)
	d.remember(r.used, err == nil)
	if err != nil {
		clear(out.Bytes())
		return nil, r.explain(err)
	}
	return out.Bytes(), nil
}

// remember keeps which integrations the document depends on; of a rendering that broke
// off not all are known.
func (d *document) remember(used map[string]bool, whole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !whole {
		for i := range d.used {
			used[i] = true
		}
	}
	d.used = used
}

func (d *document) uses(integration string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used[integration]
}

// spells reports whether the words stand in the template, in quotes. Others can come
// from a value only, which must get neither into a URL nor into an error.
func (d *document) spells(words ...string) bool {
	for _, w := range words {
		if !strings.Contains(d.text, strconv.Quote(w)) && !strings.Contains(d.text, "`"+w+"`") {
			return false
		}
	}
	return true
}

func computed() *failure {
	return usagef("what is to be read must stand in the template, in quotes, and not be computed")
}

// reading is one rendering: every credential is read once, so that its fields are of
// the same version.
type reading struct {
	ctx      context.Context
	client   *client.Client
	document *document
	found    map[string]wire.Resolved
	used     map[string]bool
	failed   error // of a credential
}

func (r *reading) functions() template.FuncMap {
	return template.FuncMap{
		"credential": r.credential,
		"fields":     r.fields,
		"json":       quoteJSON,
		"yaml":       quoteYAML,
		"shell":      quoteShell,
		"base64":     func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"url":        quoteURL,
	}
}

// credential returns a field: credential INTEGRATION [FIELD [NAME [ENVIRONMENT]]].
func (r *reading) credential(integration string, more ...string) (string, error) {
	if len(more) > 3 {
		return "", r.fail(usagef("credential takes INTEGRATION, FIELD, NAME and ENVIRONMENT"))
	}
	if !r.document.spells(append(more, integration)...) {
		return "", r.fail(computed())
	}
	var field string
	if len(more) > 0 {
		field, more = more[0], more[1:]
	}
	got, err := r.resolve(integration, more)
	if err != nil {
		return "", err
	}
	v, err := pick(got, field)
	if err != nil {
		return "", r.fail(about(integration, err))
	}
	return v.Reveal(), nil
}

// fields returns all fields: fields INTEGRATION [NAME [ENVIRONMENT]].
func (r *reading) fields(integration string, more ...string) (map[string]string, error) {
	if len(more) > 2 {
		return nil, r.fail(usagef("fields takes INTEGRATION, NAME and ENVIRONMENT"))
	}
	if !r.document.spells(append(more, integration)...) {
		return nil, r.fail(computed())
	}
	got, err := r.resolve(integration, more)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for name, v := range fieldsOf(got) {
		all[name] = v.Reveal()
	}
	return all, nil
}

func (r *reading) resolve(integration string, place []string) (wire.Resolved, error) {
	slot := r.document.defaults
	slot.Integration = integration
	if len(place) > 0 && place[0] != "" {
		slot.Name = place[0]
	}
	if len(place) > 1 && place[1] != "" {
		slot.Environment = &place[1]
	}
	r.used[integration] = true
	key := describe(slot.Integration, slot.Environment, slot.Name)
	if got, ok := r.found[key]; ok {
		return got, nil
	}
	got, err := r.client.Resolve(r.ctx, slot, client.ResolveOptions{})
	if err != nil {
		return wire.Resolved{}, r.fail(about(key, err))
	}
	warnStale(r.document.warn, got)
	r.found[key] = got.Data
	return got.Data, nil
}

func (r *reading) fail(err error) error {
	r.failed = err
	return errors.New("a credential cannot be had")
}

var whereRE = regexp.MustCompile(`^template: ` + documentName + `:(\d+)`)

// explain says where rendering broke off. What text/template says of it is dropped: it
// can quote a value.
func (r *reading) explain(err error) error {
	where := ""
	if m := whereRE.FindStringSubmatch(err.Error()); m != nil {
		where = "line " + m[1] + ": "
	}
	if r.failed != nil {
		return about(where+"credential", r.failed)
	}
	return usagef("%sa field that is not there, or a function with arguments that it does not take", where).
		hinted("what exactly is wrong is not shown, for it could show a value; nothing was written")
}

// quoteJSON returns a JSON string, with its quotes.
func quoteJSON(s string) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(s)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// quoteYAML returns a double-quoted scalar: a JSON string in which what YAML does not
// take for printable is escaped, too (YAML 1.2.2, section 5.1).
func quoteYAML(s string) (string, error) {
	quoted, err := quoteJSON(s)
	var b strings.Builder
	for _, c := range quoted {
		switch {
		case c < 0x10000 && !unicode.IsPrint(c):
			fmt.Fprintf(&b, `\u%04x`, c)
		case !unicode.IsPrint(c):
			fmt.Fprintf(&b, `\U%08x`, c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String(), err
}

// quoteShell returns one word of a POSIX shell, always in quotes.
func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// quoteURL escapes all that any part of a URL could give a meaning to.
func quoteURL(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
