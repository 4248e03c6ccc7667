package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

const (
	identityKey   = "identity"
	passphraseKey = "passphrase-fd"
	// noDescriptor: no file descriptor was given for the passphrase.
	noDescriptor = -1
	// passphraseCredential is the name under which systemd hands over the passphrase
	// (LoadCredential=, SetCredentialEncrypted=), in the directory that credentialsVariable
	// names.
	passphraseCredential = "sidevault-passphrase"
	credentialsVariable  = "CREDENTIALS_DIRECTORY"
)

func applyPassphraseFD(c *settings, v []string) error {
	c.PassphraseFD = noDescriptor
	if v[0] == "" {
		return nil
	}
	n, err := strconv.Atoi(v[0])
	if err != nil || n < 0 || n == 1 || n == 2 {
		return fmt.Errorf("%q is not the number of a file descriptor to read from", v[0])
	}
	c.PassphraseFD = n
	return nil
}

// rootIdentities returns the root identities of this host. They are read once: a
// descriptor with a passphrase can be read no more often.
func (c settings) rootIdentities() ([]age.Identity, error) {
	if c.roots != nil && len(*c.roots) > 0 {
		return *c.roots, nil
	}
	p := passphrases{sh: c.sh, fd: c.PassphraseFD}
	var ids []age.Identity
	for _, path := range c.Identities {
		more, err := readIdentity(path, p.prompts(path))
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	if c.roots != nil {
		*c.roots = ids
	}
	return ids, nil
}

// passphrases is where the passphrases of identity files come from.
type passphrases struct {
	sh    *shell
	fd    int
	given *secret.Value // what came through the descriptor
}

func (p *passphrases) prompts(path string) seal.Prompts {
	if p.sh == nil {
		return seal.Prompts{}
	}
	ask := seal.Prompts{Passphrase: func() (secret.Value, error) { return p.passphrase(path) }}
	if isTerminal(p.sh.in) {
		say := func(format string, args ...any) { fmt.Fprintf(p.sh.err, format+"\n", args...) }
		ask.Plugin = plugin.NewTerminalUI(say, say)
	}
	return ask
}

// passphrase returns the passphrase of an identity file.
func (p *passphrases) passphrase(path string) (secret.Value, error) {
	if p.fd != noDescriptor {
		return p.fromDescriptor()
	}
	if dir := p.sh.getenv(credentialsVariable); dir != "" {
		if f, err := os.Open(filepath.Join(dir, passphraseCredential)); err == nil {
			defer f.Close()
			return readPassphrase(f)
		}
	}
	if !isTerminal(p.sh.in) {
		return secret.Value{}, failf(exitError, "identity file %s is protected by a passphrase, and there is no terminal to ask for it", path).
			hinted("--%s N reads it from an open descriptor; under systemd, LoadCredential=%s:FILE hands it over", passphraseKey, passphraseCredential)
	}
	line, err := (&secretInput{sh: p.sh}).ask("passphrase of " + path)
	defer clear(line)
	if err != nil {
		return secret.Value{}, err
	}
	return secret.New(string(line)), nil
}

func (p *passphrases) fromDescriptor() (secret.Value, error) {
	if p.given == nil {
		f := os.NewFile(uintptr(p.fd), passphraseKey)
		defer f.Close()
		v, err := readPassphrase(f)
		if err != nil {
			return secret.Value{}, err
		}
		p.given = &v
	}
	return *p.given, nil
}

const maxPassphrase = 4 << 10

// readPassphrase reads one line.
func readPassphrase(r io.Reader) (secret.Value, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPassphrase+1))
	defer clear(data)
	if err != nil {
		return secret.Value{}, failf(exitError, "read the passphrase").because(err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 || len(line) > maxPassphrase {
		return secret.Value{}, failf(exitError, "the passphrase is empty, or longer than %d bytes", maxPassphrase)
	}
	return secret.New(string(line)), nil
}

// identityFlags spells the identity files for the age command, or for this one.
func identityFlags(flag string, paths []string) string {
	var b strings.Builder
	for _, path := range paths {
		b.WriteString(" " + flag + " " + quoted(path))
	}
	return strings.TrimPrefix(b.String(), " ")
}
