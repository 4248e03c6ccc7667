package acceptance

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// canary is a secret that must be found nowhere.
type canary struct {
	t       *testing.T
	sidecar *sidecar.Sidecar
	secret  string
}

func newCanary(t *testing.T, s *sidecar.Sidecar) *canary {
	return &canary{t: t, sidecar: s, secret: "canary-" + rand.Text()}
}

// spellings are the forms in which the secret could leave.
func (c *canary) spellings() [][]byte {
	plain := []byte(c.secret)
	return [][]byte{
		plain,
		[]byte(url.QueryEscape(c.secret)),
		[]byte(base64.StdEncoding.EncodeToString(plain)),
		[]byte(hex.EncodeToString(plain)),
	}
}

func (c *canary) search(where string, text []byte) {
	c.t.Helper()
	for _, s := range c.spellings() {
		if bytes.Contains(text, s) {
			c.t.Errorf("the secret is in %s", where)
		}
	}
}

// inspect searches an answer, headers and all.
func (c *canary) inspect(a *sidecar.Answer) *sidecar.Answer {
	c.t.Helper()
	c.search("a body", a.Body)
	for name, values := range a.Header {
		for _, v := range values {
			c.search("the header "+name, []byte(v))
		}
	}
	return a
}

// absent searches the log, the metrics, the audit log and the data directory.
func (c *canary) absent() {
	c.t.Helper()
	c.search("the log", []byte(c.sidecar.Log()))
	admin := c.sidecar.Admin().For(c.t)
	c.search("the metrics", admin.Get("/metrics").Wants(http.StatusOK).Body)
	c.search("the audit log", admin.Get("/v1/audit?limit=500").Wants(http.StatusOK).Body)
	err := filepath.WalkDir(c.sidecar.Dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		c.search(entry.Name(), content)
		return err
	})
	if err != nil {
		c.t.Error(err)
	}
	if c.sidecar.Vault.URL != "" {
		c.searchStorage(c.sidecar.Vault.URL)
	}
}

// searchStorage searches every record and log entry of a store that is served.
func (c *canary) searchStorage(url string) {
	c.t.Helper()
	b, err := open.Open(c.t.Context(), url, open.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer b.Close()
	for after := ""; ; {
		page, err := b.List(c.t.Context(), "", after, backends.MaxPage)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range page {
			c.search("the record "+r.Key, []byte(r.Key+"\n"+string(r.Value)))
		}
		if len(page) < backends.MaxPage {
			break
		}
		after = page[len(page)-1].Key
	}
	for after := uint64(0); ; {
		entries, err := b.Log(c.t.Context(), after, backends.MaxPage)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, e := range entries {
			c.search(fmt.Sprint("log entry ", e.Seq), e.Body)
		}
		if len(entries) < backends.MaxPage {
			return
		}
		after = entries[len(entries)-1].Seq
	}
}
