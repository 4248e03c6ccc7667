package seal

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"filippo.io/age/plugin"
	"golang.org/x/crypto/ssh"

	"github.com/sidevault/sidevault/vault/secret"
)

// Prompts is how the owner of an identity is asked for what it takes.
type Prompts struct {
	// Passphrase returns the passphrase of the identity file; nil: none can be had.
	Passphrase func() (secret.Value, error)
	// Plugin is shown what plugins say and ask; nil: nobody watches.
	Plugin *plugin.ClientUI
}

// ErrPassphrase: the passphrase of an identity file is wrong.
var ErrPassphrase = errors.New("the passphrase is wrong")

// maxIdentities bounds the plaintext of an encrypted identity file.
const maxIdentities = 64 << 10

// ParseIdentities reads the root identities of a file that takes no passphrase.
func ParseIdentities(file []byte) ([]age.Identity, error) {
	return ReadIdentities(file, Prompts{})
}

// ReadIdentities reads the root identities of a file: an identity file as
// age-keygen and the plugins' programs write it, such a file encrypted with a
// passphrase (age -p), or an SSH private key. Its errors name the line, never its
// content.
func ReadIdentities(file []byte, ask Prompts) ([]age.Identity, error) {
	switch {
	case bytes.HasPrefix(file, []byte("age-encryption.org/")), bytes.HasPrefix(bytes.TrimSpace(file), []byte(armor.Header)):
		plain, err := ask.decrypt(file)
		if err != nil {
			return nil, err
		}
		defer clear(plain)
		return ask.lines(plain)
	case bytes.HasPrefix(bytes.TrimSpace(file), []byte("-----BEGIN ")):
		return ask.ssh(file)
	}
	return ask.lines(file)
}

// decrypt opens an identity file that is itself encrypted with a passphrase.
func (ask Prompts) decrypt(file []byte) ([]byte, error) {
	if ask.Passphrase == nil {
		return nil, errors.New("it is protected with a passphrase, and none can be asked for here")
	}
	passphrase, err := ask.Passphrase()
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(passphrase.Reveal())
	if err != nil {
		return nil, errors.New("the passphrase is empty")
	}
	var r io.Reader = bytes.NewReader(file)
	if trimmed := bytes.TrimSpace(file); bytes.HasPrefix(trimmed, []byte(armor.Header)) {
		r = armor.NewReader(bytes.NewReader(trimmed))
	}
	opened, err := age.Decrypt(r, id)
	if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("it is not an age file that a passphrase opens: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(opened, maxIdentities))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return plain, nil
}

// lines reads one identity a line. Plugins' programs write the recipient of an
// identity into a comment before it.
func (ask Prompts) lines(file []byte) ([]age.Identity, error) {
	var ids []age.Identity
	comment := ""
	for n, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if text, ok := strings.CutPrefix(line, "#"); ok {
			if words := strings.Fields(text); len(words) > 0 && strings.HasPrefix(words[len(words)-1], nativePrefix) {
				comment = words[len(words)-1]
			}
			continue
		}
		id, err := ask.line(line, comment)
		if err != nil {
			return nil, fmt.Errorf("line %d is not an age identity (AGE-SECRET-KEY-1…, AGE-SECRET-KEY-PQ-1… or AGE-PLUGIN-…)", n+1)
		}
		ids, comment = append(ids, id), ""
	}
	if len(ids) == 0 {
		return nil, errors.New("it holds no age identity: age-keygen makes one")
	}
	return ids, nil
}

// line reads one identity. Its error is for no one to see: age quotes the line,
// which is the private key.
func (ask Prompts) line(line, comment string) (age.Identity, error) {
	if !strings.HasPrefix(line, "AGE-PLUGIN-") {
		ids, err := age.ParseIdentities(strings.NewReader(line))
		if err != nil {
			return nil, err
		}
		return ids[0], nil
	}
	ui := ask.Plugin
	if ui == nil {
		ui = headless()
	}
	id, err := plugin.NewIdentity(line, ui)
	if err != nil {
		return nil, err
	}
	if name, _, err := plugin.ParseRecipient(comment); err != nil || name != id.Name() {
		comment = ""
	}
	return pluginIdentity{id, comment}, nil
}

// ssh reads an SSH private key.
func (ask Prompts) ssh(file []byte) ([]age.Identity, error) {
	private, err := ssh.ParseRawPrivateKey(file)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		if ask.Passphrase == nil {
			return nil, errors.New("it is protected with a passphrase, and none can be asked for here")
		}
		passphrase, askErr := ask.Passphrase()
		if askErr != nil {
			return nil, askErr
		}
		if private, err = ssh.ParseRawPrivateKeyWithPassphrase(file, []byte(passphrase.Reveal())); err != nil {
			return nil, ErrPassphrase
		}
	}
	if err != nil {
		// The parser's text could quote the file.
		return nil, errors.New("it is not an SSH private key, nor an age identity file")
	}
	id, err := sshAge(private)
	if err != nil {
		return nil, errors.New("age uses SSH keys of the kinds ed25519 and rsa (2048 bits and more), and this is another")
	}
	return []age.Identity{id}, nil
}

func sshAge(private any) (age.Identity, error) {
	var id age.Identity
	var err error
	switch key := private.(type) {
	case *ed25519.PrivateKey:
		id, err = agessh.NewEd25519Identity(*key)
	case ed25519.PrivateKey:
		id, err = agessh.NewEd25519Identity(key)
	case *rsa.PrivateKey:
		id, err = agessh.NewRSAIdentity(key)
	default:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if p, isPointer := private.(*ed25519.PrivateKey); isPointer {
		signer, ok = *p, true
	}
	if !ok {
		return nil, errors.ErrUnsupported
	}
	public, err := ssh.NewPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	return sshIdentity{id, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))}, nil
}

// RecipientOf returns the public recipient of a root identity.
func RecipientOf(id age.Identity) (string, error) {
	switch id := id.(type) {
	case *age.X25519Identity:
		return id.Recipient().String(), nil
	case *age.HybridIdentity:
		return id.Recipient().String(), nil
	case sshIdentity:
		return id.recipient, nil
	case pluginIdentity:
		if id.recipient == "" {
			return "", fmt.Errorf("the recipient of the identity of age-plugin-%s is not in its file: add the comment \"# public key: age1%s1…\" before it", id.Name(), id.Name())
		}
		return id.recipient, nil
	default:
		return "", errors.New("an identity of a kind whose recipient is not known")
	}
}

// sshIdentity is an SSH private key with its recipient.
type sshIdentity struct {
	age.Identity
	recipient string
}

// Format prints the public half whatever the verb.
func (i sshIdentity) Format(f fmt.State, _ rune) { io.WriteString(f, i.recipient) }

// pluginIdentity is a plugin's identity whose errors are an ErrPlugin.
type pluginIdentity struct {
	*plugin.Identity
	recipient string // "" when its file does not say
}

func (i pluginIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	key, err := i.Identity.Unwrap(stanzas)
	return key, pluginError(i.Name(), err)
}

// Format prints the plugin's name whatever the verb.
func (i pluginIdentity) Format(f fmt.State, _ rune) { io.WriteString(f, "age-plugin-"+i.Name()) }
