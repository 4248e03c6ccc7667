// Package catalog says which integrations exist. It reads YAML: a built-in
// catalog of common providers, and the operator's files laid over it. It
// answers what an integration is and what fields its credential has; it holds
// no credential, knows no status, and never touches the network.
//
// # Files
//
// A file is one mapping with one key, integrations, a list of entries:
//
//	integrations:
//	  - key: acme                  # what callers name it by
//	    name: Acme
//	    category: crm
//	    authTypes: [api_key]
//	    fields:
//	      - {name: api_key, description: "Key of the Acme API.", required: true}
//
// An empty file, one of comments only, and an empty list all mean no entries.
// docs/catalog.md has every key of an entry.
//
// Reading is strict: an unknown key, a wrong type, a key given twice is a
// [Problem] with its file, line and column, and all of a file's problems are
// reported together. A file is at most [MaxFile] bytes and one document;
// anchors, aliases, merge keys, tags and directives are refused, so that what
// stands in the file is what it means and nothing expands.
//
// # Merging
//
// Later files win over earlier ones, and every file over the built-in catalog.
// An entry whose key an earlier file has replaces that one whole: nothing of
// the earlier entry remains. No entry can be taken away; enabled: false closes
// it to new credentials. A key twice in one file is an error.
//
// # Shared credentials
//
// credentialOf names another entry whose credential this one uses: Confluence
// is reached with Jira's Atlassian token. Such an entry has no fields,
// authTypes and environments of its own: it shows those of the entry that it
// names. It counts among the integrations affected when that entry's credential
// goes. The named entry must exist in the merged catalog and have its own
// credential: credentialOf is one step, never a chain.
//
// # Bindings
//
// validators and syncers bind an entry to plugins: programs that check its
// credential before it is stored, and that carry changes of it on. A binding's
// config is the plugin's own and is passed on as JSON; what the plugin makes of it
// is not known here. An entry with credentialOf has bindings of its own.
//
// # Auth types
//
// Any slug is accepted. The built-in catalog uses these:
//
//	api_key                   a key sent in a header or parameter
//	basic                     user name and password
//	bearer_token              a token sent as Authorization: Bearer
//	certificate               a client certificate and its key
//	connection_string         one URI or DSN that holds everything
//	oauth2_bearer             an access token obtained elsewhere
//	oauth2_client_credentials client ID and secret, exchanged for a token
//	oauth2_jwt_bearer         a private key that signs assertions
//	oauth2_refresh_token      a refresh token with its client's ID and secret
//	service_account           a key file of a machine's own account
//	ssh_key                   an SSH private key
//	webhook_secret            the key that signs incoming webhooks
//	webhook_url               a URL that is itself the secret
package catalog

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/suggest"
)

// Catalog is an immutable set of integrations, safe for concurrent use. It
// implements [vault.Catalog].
type Catalog struct {
	all     []vault.Integration // in the order of the keys
	index   map[string]int      // of all
	sources map[string]entry    // where each key's entry was read
}

var _ vault.Catalog = (*Catalog)(nil)

//go:embed builtin.yaml
var builtinYAML []byte

var builtin = sync.OnceValue(func() sheet { return parse("builtin.yaml", builtinYAML) })

// Builtin returns the catalog that the program comes with.
func Builtin() *Catalog {
	c, err := merge(builtin())
	if err != nil {
		panic(err) // a fault of the build, which the tests exclude
	}
	return c
}

// Load returns the built-in catalog with the given files laid over it, in that
// order. When anything is wrong it returns no catalog, and every [Problem] of
// every file.
func Load(files ...string) (*Catalog, error) {
	sheets := []sheet{builtin()}
	for _, name := range files {
		sheets = append(sheets, open(name))
	}
	return merge(sheets...)
}

// Parse is [Load] for one file that has been read already. The name appears in
// problems only.
func Parse(name string, data []byte) (*Catalog, error) {
	return merge(builtin(), parse(name, data))
}

func open(name string) sheet {
	data, err := readFile(name)
	if err != nil {
		p := &Problem{place: place{File: name}, Msg: err.Error(), Err: err}
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			p.Msg = e.Err.Error()
		}
		return sheet{problems: []*Problem{p}, broken: true}
	}
	return parse(name, data)
}

// readFile returns no more than one byte over the limit, which parse refuses.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}

// Lookup returns the entry with that key, which is compared as it is: case
// matters. The entry's slices are shared: do not change them.
func (c *Catalog) Lookup(key string) (vault.Integration, bool) {
	i, ok := c.index[key]
	if !ok {
		return vault.Integration{}, false
	}
	return c.all[i], true
}

// All returns every entry in the order of the keys. The slice is shared: do not
// change it.
func (c *Catalog) All() []vault.Integration { return c.all }

// CheckEnvironments reports, as a [Problem] each, the environments that entries
// name and t does not have.
func (c *Catalog) CheckEnvironments(t *envs.Tree) error {
	var found []*Problem
	for _, e := range c.sources {
		for i, name := range e.Environments {
			if _, ok := t.Lookup(name); !ok {
				msg := fmt.Sprintf("environments: unknown environment %s%s", quote(name), suggest.Hint(name, t.Names()))
				found = append(found, &Problem{place: e.environmentsAt[i], Msg: msg, sheet: e.sheet})
			}
		}
	}
	return join(found)
}
