package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends/memory"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/secret"
)

// devVault is what the banner of a development sidecar needs to know.
type devVault struct {
	key     secret.Value // the admin key, when it was just made
	keyFile string       // where the admin key is; "" when the vault is in memory
}

func (d *devVault) inMemory() bool { return d.keyFile == "" }

// openDev opens the vault in the data directory, which it makes when there is
// none, or without a data directory one in memory.
func openDev(ctx context.Context, cfg settings, c vault.Catalog, o vault.Options, wrap around) (opened, *devVault, error) {
	if cfg.Storage.scheme == open.Memory || !cfg.given["data-dir"] && !cfg.given[backendKey] && !cfg.given[backendFileKey] {
		return openInMemory(ctx, cfg, c, o, wrap)
	}
	d := &devVault{keyFile: filepath.Join(cfg.DataDir, adminKeyFile)}
	made := cfg.Storage.path
	if cfg.Storage.shared() {
		made = filepath.Join(cfg.DataDir, trustFile)
	}
	if !exists(made) {
		making, err := initOptions{adminKeyFile: d.keyFile, org: defaultOrg}.creation(cfg)
		if err != nil {
			return opened{}, nil, err
		}
		made, err := create(ctx, making)
		if err != nil {
			return opened{}, nil, err
		}
		d.key = made.Admin.Secret
	}
	v, err := openVault(ctx, cfg, c, o, wrap)
	return v, d, err
}

func openInMemory(ctx context.Context, cfg settings, c vault.Catalog, o vault.Options, wrap around) (opened, *devVault, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return opened{}, nil, err
	}
	b := wrap(memory.New())
	made, err := vault.Init(ctx, vault.InitConfig{
		Backend: b, Roots: []string{id.Recipient().String()}, Envs: cfg.Environments, Org: defaultOrg, AdminName: "admin",
	})
	if err != nil {
		return opened{}, nil, errors.Join(err, b.Close())
	}
	v, err := vault.Open(ctx, vault.Config{
		Backend: b, Envs: cfg.Environments, Catalog: c, Identities: []age.Identity{id}, Trusted: made.Trusted, Options: o,
	})
	if err != nil {
		return opened{}, nil, errors.Join(err, b.Close())
	}
	return opened{vault: v, backend: b}, &devVault{key: made.Admin.Secret}, nil
}

// banner shows the key and how to use it, in lines that work when pasted.
func (d *devVault) banner(addresses []string, cfg settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nA development sidecar: not for real secrets.\n\n")
	if d.key.Len() > 0 {
		fmt.Fprintf(&b, "  admin key (shown this once)  %s\n", d.key.Reveal())
	}
	switch {
	case d.inMemory():
		fmt.Fprintf(&b, "  vault                        in memory, gone when this ends\n\n")
	case exists(d.keyFile):
		fmt.Fprintf(&b, "  vault                        %s\n  admin key                    in %s\n\n", cfg.DataDir, d.keyFile)
	default:
		fmt.Fprintf(&b, "  vault                        %s\n  admin key                    %s is gone; with the sidecar stopped, type\n"+
			"    sidevault key create --name admin --scope admin -e '*' --data-dir %s\n\n", cfg.DataDir, d.keyFile, quoted(cfg.DataDir))
	}
	for _, line := range d.examples(addresses, cfg) {
		fmt.Fprintf(&b, "# %s\n%s\n\n", line.says, line.curl)
	}
	return b.String()
}

type example struct{ says, curl string }

func (d *devVault) examples(addresses []string, cfg settings) []example {
	curl, base := curlTo(addresses, cfg.TLSCert != "")
	token := d.key.Reveal()
	if !d.inMemory() {
		token = "$(cat " + quoted(d.keyFile) + ")"
	}
	curl += ` -H "Authorization: Bearer ` + token + `"`
	put := curl + ` -H 'Content-Type: application/json' -X PUT `
	other, special := exampleEnvironments(cfg.Environments)
	slot := base + "/v1/integrations/salesforce/credentials"
	read := base + "/v1/credentials/salesforce"
	return []example{
		{"set a value for all environments",
			put + slot + ` -d '{"value":"shared-value"}'`},
		{"set " + special + "'s own",
			put + slot + fmt.Sprintf(` -d '{"environment":%q,"value":"%s-value"}'`, special, special)},
		{"resolve both",
			fmt.Sprintf("%s '%s?environment=%s' '%s?environment=%s'", curl, read, other, read, special)},
		{"delete " + special + "'s",
			fmt.Sprintf("%s -X DELETE '%s?environment=%s'", curl, slot, special)},
		{"delete it again: 409, with when and by whom",
			fmt.Sprintf("%s -i -X DELETE '%s?environment=%s'", curl, slot, special)},
	}
}

// curlTo returns the beginning of a curl command, and of its URLs, for the first
// address.
func curlTo(addresses []string, tls bool) (command, base string) {
	command = `curl -sS -w '\n'`
	if path, ok := strings.CutPrefix(addresses[0], unixPrefix); ok {
		return command + " --unix-socket " + quoted(path), "http://localhost"
	}
	if tls {
		return command, "https://" + addresses[0]
	}
	return command, "http://" + addresses[0]
}

// exampleEnvironments returns two environments, the second one production where
// there is one.
func exampleEnvironments(t *envs.Tree) (other, special string) {
	names := t.Names()
	special = names[len(names)-1]
	if slices.Contains(names, "production") {
		special = "production"
	}
	for _, name := range names {
		if name != special {
			other = name
		}
	}
	if other == "" {
		other = special
	}
	return other, special
}
