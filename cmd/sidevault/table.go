package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/suggest"
)

// setting is one row of the table that flags, variables, YAML keys, their help
// and docs/configuration.md come from.
type setting struct {
	key      string // in YAML; a dot leads into a section
	def      []string
	list     bool
	orOne    bool // a list that may be a single value in a file
	path     bool // a relative one in a file is relative to that file
	fileOnly bool // neither a flag nor a variable
	// item spells a list's mapping as text, where a list may have mappings.
	item func(*configReader, ast.Node) string
	// entry spells an entry of a mapping as text, where a list is a mapping in a file.
	entry func(*configReader, *token.Token, ast.Node) string
	help  string
	apply func(*settings, []string) error
}

func table() []setting {
	return slices.Concat(coreSettings(), callerSettings(), pluginSettings(), backupTable(), tracingTable(), limitSettings())
}

func coreSettings() []setting {
	return []setting{
		{key: "data-dir", path: true,
			help:  "`directory` of the vault, its identity and its trust anchor; default " + defaultDataDir + ", with --dev none",
			apply: text(func(c *settings) *string { return &c.DataDir })},
		{key: "backend",
			help:  "`URL` of the storage: bbolt:///path/of/vault.db, postgres://, etcd://, or memory: with --dev; default vault.db in the data directory",
			apply: func(c *settings, v []string) (err error) { c.Storage, err = parseStorage(v[0]); return err }},
		{key: backendFileKey, path: true,
			help:  "`file` of its owner alone that holds the URL of the storage, in place of backend: for a URL with a password",
			apply: applyBackendFile},
		{key: identityKey, list: true, orOne: true, path: true,
			help:  "`files` with the age identities of this host: of age-keygen, of a plugin, protected by a passphrase, or SSH private keys; default identity.txt in the data directory",
			apply: func(c *settings, v []string) error { c.Identities = v; return nil }},
		{key: passphraseKey,
			help:  "`number` of an open file descriptor with the passphrase of the identity files; without it, the credential " + passphraseCredential + " of systemd, else a prompt",
			apply: applyPassphraseFD},
		{key: "listen", list: true, def: []string{defaultListen},
			help:  "`addresses` to listen on: host:port, or unix:///path.sock",
			apply: applyListen},
		{key: "socket-mode", def: []string{"0600"},
			help:  "`mode` of the Unix sockets that are listened on: 0600 (owner), 0660 (and group) or 0666 (every user)",
			apply: applySocketMode},
		{key: debugListenKey,
			help:  "`address` that answers profiles of the process to admins: host:port on loopback, or unix:///path.sock; default none",
			apply: applyDebugListen},
		{key: environmentsKey, list: true, def: defaultEnvironments(), item: (*configReader).environment,
			help:  "`environments`, as in development,preview:parent=development,production:protected; recipient=age1... names who can open its key",
			apply: applyEnvironments},
		{key: "catalog", list: true, path: true,
			help:  "catalog `files` laid over the built-in one; read again on SIGHUP",
			apply: func(c *settings, v []string) error { c.Catalog = v; return nil }},
		{key: "audit.reads", def: []string{string(vault.ReadsCoalesced)},
			help:  "`how` reads are audited: coalesced (counted, written every second) or each (written before the value leaves)",
			apply: applyReadAudit},
		{key: "keep-versions", def: []string{"10"},
			help:  fmt.Sprintf("`number` of a credential's versions that are kept, 1 to %d", vault.MaxKeepVersions),
			apply: applyKeepVersions},
		{key: "cache-size",
			help:  "`bytes` of memory for what was read: two thirds for records and documents of the storage, one for decrypted credentials, sealed; 1MiB to 64GiB, default 32MiB, with a shared storage 96MiB",
			apply: applyCacheSize},
		{key: "max-stale", def: []string{"5m"},
			help:  "`time` that kept records are served while a shared storage does not answer; 0 is not at all, 24h the most",
			apply: applyMaxStale},
		{key: "log.level", def: []string{"info"},
			help:  "least `level` that is logged: debug, info, warn or error",
			apply: applyLogLevel},
		{key: "log.format", def: []string{"json"},
			help:  "`format` of the log on standard error: json or text",
			apply: oneOf(func(c *settings) *string { return &c.LogFormat }, "json", "text")},
		{key: "tls.cert", path: true,
			help:  "`file` with the TLS certificate chain of the TCP addresses (PEM); read again on SIGHUP",
			apply: text(func(c *settings) *string { return &c.TLSCert })},
		{key: "tls.key", path: true,
			help:  "`file` with the private key of tls.cert (PEM); read again on SIGHUP",
			apply: text(func(c *settings) *string { return &c.TLSKey })},
		{key: "trusted-proxies", list: true,
			help:  "`peers` whose X-Forwarded-For is put up with: addresses or CIDR prefixes",
			apply: applyProxies},
		{key: "shutdown-timeout", def: []string{"10s"},
			help:  "`time` that requests under way and the audit get to end on SIGTERM",
			apply: applyShutdownTimeout},
	}
}

func text(at func(*settings) *string) func(*settings, []string) error {
	return func(c *settings, v []string) error {
		*at(c) = v[0]
		return nil
	}
}

func oneOf(at func(*settings) *string, known ...string) func(*settings, []string) error {
	return func(c *settings, v []string) error {
		for _, k := range known {
			if v[0] == k {
				*at(c) = k
				return nil
			}
		}
		return fmt.Errorf("%q is none of %s%s", v[0], strings.Join(known, ", "), suggest.Hint(v[0], known))
	}
}

func applySocketMode(c *settings, v []string) error {
	var s string
	if err := oneOf(func(*settings) *string { return &s }, "0600", "0660", "0666")(c, v); err != nil {
		return err
	}
	mode, err := strconv.ParseUint(s, 8, 32)
	c.SocketMode = fs.FileMode(mode)
	return err
}

func applyListen(c *settings, v []string) error {
	c.Listen = nil
	for _, s := range v {
		a, err := parseAddress(s)
		if err != nil {
			return err
		}
		c.Listen = append(c.Listen, a)
	}
	if len(c.Listen) == 0 {
		return errors.New("name at least one address")
	}
	return nil
}

func defaultEnvironments() []string {
	var list []string
	for _, e := range envs.Default() {
		list = append(list, spellEnvironment(e))
	}
	return list
}

const (
	parentMark    = "parent="
	protectedMark = "protected"
	recipientMark = "recipient="
)

func applyEnvironments(c *settings, v []string) (err error) {
	list := make([]envs.Environment, len(v))
	for i, s := range v {
		parts := strings.Split(s, ":")
		list[i].Name = parts[0]
		for _, mark := range parts[1:] {
			parent, isParent := strings.CutPrefix(mark, parentMark)
			recipient, isRecipient := strings.CutPrefix(mark, recipientMark)
			switch {
			case isParent:
				list[i].Parent = parent
			case isRecipient:
				if _, err := seal.ParseRecipient(recipient); err != nil {
					return fmt.Errorf("environment %q: %w", parts[0], err)
				}
				list[i].Recipients = append(list[i].Recipients, recipient)
			case mark == protectedMark:
				list[i].Protected = true
			default:
				return fmt.Errorf("environment %q: %q is none of %sNAME, %s and %sRECIPIENT", parts[0], mark, parentMark, protectedMark, recipientMark)
			}
		}
	}
	c.Environments, err = envs.New(list)
	return err
}

func applyReadAudit(c *settings, v []string) error {
	var s string
	err := oneOf(func(*settings) *string { return &s }, string(vault.ReadsCoalesced), string(vault.ReadsEach))(c, v)
	c.ReadAudit = vault.ReadAudit(s)
	return err
}

func applyKeepVersions(c *settings, v []string) error {
	n, err := strconv.Atoi(v[0])
	if err != nil || n < 1 || n > vault.MaxKeepVersions {
		return fmt.Errorf("%q is not a number from 1 to %d", v[0], vault.MaxKeepVersions)
	}
	c.KeepVersions = n
	return nil
}

func applyLogLevel(c *settings, v []string) error {
	var s string
	if err := oneOf(func(*settings) *string { return &s }, "debug", "info", "warn", "error")(c, v); err != nil {
		return err
	}
	return c.LogLevel.UnmarshalText([]byte(s))
}

func applyProxies(c *settings, v []string) error {
	c.TrustedProxies = nil
	for _, s := range v {
		p, err := netip.ParsePrefix(s)
		if a, addrErr := netip.ParseAddr(s); addrErr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return fmt.Errorf("%q is neither an address nor a CIDR prefix", s)
		}
		c.TrustedProxies = append(c.TrustedProxies, p.Masked())
	}
	return nil
}

func applyShutdownTimeout(c *settings, v []string) error {
	d, err := time.ParseDuration(v[0])
	if err != nil || d < time.Second || d > time.Hour {
		return fmt.Errorf("%q is not a duration from 1s to 1h", v[0])
	}
	c.ShutdownTimeout = d
	return nil
}

// complete derives the defaults that depend on other settings.
func (c settings) complete() (settings, error) {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return c, usagef("tls.cert and tls.key belong together, and one of them is not set")
	}
	if err := c.checkCallers(); err != nil {
		return c, err
	}
	if err := c.Limits.check(); err != nil {
		return c, err
	}
	if c.DataDir == "" && c.Storage.path != "" {
		c.DataDir = filepath.Dir(c.Storage.path)
	}
	if c.DataDir == "" {
		c.DataDir = defaultDataDir
	}
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return c, err
	}
	c.DataDir = dir
	if c.Storage.scheme == "" {
		c.Storage = fileStorage(filepath.Join(dir, vaultFile))
	}
	if c.CacheSize == 0 {
		c.CacheSize = fileCacheSize
		if c.Storage.shared() {
			c.CacheSize = sharedCacheSize
		}
	}
	if len(c.Identities) == 0 {
		c.Identities = []string{filepath.Join(dir, identityFile)}
	}
	for i, path := range c.Identities {
		if c.Identities[i], err = filepath.Abs(path); err != nil {
			return c, err
		}
	}
	return c, nil
}
