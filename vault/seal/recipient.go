package seal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/plugin"
	"filippo.io/age/tag"
	"golang.org/x/crypto/ssh"
)

// ErrPlugin: the program of an age plugin is missing, or it failed. Its text names
// the program and what it said.
var ErrPlugin = errors.New("an age plugin cannot be used")

const (
	hybridPrefix = "age1pq1"
	nativePrefix = "age1"
)

// ParseRecipient reads one public recipient: age's own (age1…), hybrid post-quantum
// (age1pq1…), tagged or of a plugin (age1NAME1…), or an SSH public key (ssh-ed25519 or
// ssh-rsa). Its error says which character is wrong, where that can be known.
// A plugin's program is run when a key is wrapped, not here.
func ParseRecipient(s string) (age.Recipient, error) {
	switch {
	case strings.HasPrefix(strings.ToUpper(s), "AGE-SECRET-KEY-"), strings.HasPrefix(strings.ToUpper(s), "AGE-PLUGIN-"):
		return nil, errors.New("that is an identity, which is secret: give its recipient (age1…)")
	case strings.HasPrefix(s, "ssh-"):
		return parseSSHRecipient(s)
	case strings.HasPrefix(s, hybridPrefix):
		r, err := age.ParseHybridRecipient(s)
		return r, recipientFault(s, err)
	case strings.HasPrefix(s, "age1tag1"), strings.HasPrefix(s, "age1tagpq1"):
		r, err := tag.ParseRecipient(s)
		return r, recipientFault(s, err)
	case strings.HasPrefix(s, nativePrefix) && strings.LastIndexByte(s, '1') > len(nativePrefix):
		return parsePluginRecipient(s)
	case strings.HasPrefix(s, nativePrefix):
		r, err := age.ParseX25519Recipient(s)
		return r, recipientFault(s, err)
	}
	return nil, fmt.Errorf("%q is not an age recipient (age1…, ssh-ed25519 … or ssh-rsa …)", clip(s))
}

// Canonical returns a recipient as [RecipientOf] returns it: an SSH key without its
// comment. What is no recipient comes back as it is.
func Canonical(recipient string) string {
	if !strings.HasPrefix(recipient, "ssh-") {
		return recipient
	}
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(recipient))
	if err != nil {
		return recipient
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// recipientFault says where a recipient is wrong, if it is.
func recipientFault(s string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("recipient %s: %s", clip(s), bech32Fault(s))
}

func parsePluginRecipient(s string) (age.Recipient, error) {
	r, err := plugin.NewRecipient(s, headless())
	if err != nil {
		return nil, recipientFault(s, err)
	}
	return pluginRecipient{r}, nil
}

func parseSSHRecipient(s string) (age.Recipient, error) {
	r, err := agessh.ParseRecipient(s)
	if err == nil {
		return r, nil
	}
	kind, data, _ := strings.Cut(s, " ")
	data, _, _ = strings.Cut(strings.TrimSpace(data), " ")
	_, err = base64.StdEncoding.DecodeString(data)
	if at, ok := errors.AsType[base64.CorruptInputError](err); ok {
		return nil, fmt.Errorf("recipient %s: character %d is wrong, or the key ends there", clip(s), strings.Index(s, data)+int(at)+1)
	}
	return nil, fmt.Errorf("recipient %s: it is not an SSH public key of the kind %s that age can use (ssh-ed25519, or ssh-rsa of 2048 bits and more)", clip(s), clip(kind))
}

// Usable returns an error unless one age file can be encrypted to all of the
// recipients: each is well-formed, the programs of plugins are there, and none of
// them undoes the post-quantum protection of another.
func Usable(recipients []string) error {
	rs, err := parseRecipients(recipients)
	if err != nil {
		return err
	}
	_, err = age.Encrypt(io.Discard, rs...)
	return wrapError(err)
}

// WrapFor is Wrap for recipients as they are printed.
func (k *Key) WrapFor(recipients []string) ([]byte, error) {
	rs, err := parseRecipients(recipients)
	if err != nil {
		return nil, err
	}
	return k.Wrap(rs...)
}

func parseRecipients(recipients []string) ([]age.Recipient, error) {
	if len(recipients) == 0 {
		return nil, errors.New("no recipients: nobody could open the key")
	}
	rs := make([]age.Recipient, len(recipients))
	var hybrid, classic bool
	for i, s := range recipients {
		var err error
		if rs[i], err = ParseRecipient(s); err != nil {
			return nil, err
		}
		switch r := rs[i].(type) {
		case *age.HybridRecipient:
			hybrid = true
		case *tag.Recipient:
			hybrid, classic = hybrid || r.Hybrid(), classic || !r.Hybrid()
		case pluginRecipient: // its program says which it is
		default:
			classic = true
		}
	}
	if hybrid && classic {
		return nil, errMixed
	}
	return rs, nil
}

var errMixed = errors.New("post-quantum recipients (age1pq1…) and others (age1…, ssh-…) cannot be mixed in one age file: whoever breaks the others would have the key")

// wrapError explains an error of age's encryption.
func wrapError(err error) error {
	if err == nil || errors.Is(err, ErrPlugin) {
		return err
	}
	if strings.Contains(err.Error(), "incompatible recipients") {
		return errMixed
	}
	return fmt.Errorf("wrap a key: %w", err)
}

// clip makes what is quoted in an error short, and fit for one line.
func clip(s string) string {
	const most = 24
	short := s[:min(len(s), most)]
	short = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, short)
	if len(s) > most {
		short += "…"
	}
	return short
}

// headless is how plugins meet a program that nobody watches: what they show is
// dropped, and what they ask for is refused, which they report as their error.
func headless() *plugin.ClientUI {
	refuse := errors.New("there is no terminal to ask at")
	return &plugin.ClientUI{
		DisplayMessage: func(string, string) error { return nil },
		RequestValue:   func(string, string, bool) (string, error) { return "", refuse },
		Confirm:        func(string, string, string, string) (bool, error) { return false, refuse },
	}
}

// pluginRecipient is a plugin's recipient whose errors are an ErrPlugin.
type pluginRecipient struct{ *plugin.Recipient }

func (r pluginRecipient) Wrap(key []byte) ([]*age.Stanza, error) {
	s, err := r.Recipient.Wrap(key)
	return s, pluginError(r.Name(), err)
}

func (r pluginRecipient) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	s, labels, err := r.Recipient.WrapWithLabels(key)
	return s, labels, pluginError(r.Name(), err)
}

func pluginError(name string, err error) error {
	if err == nil || errors.Is(err, age.ErrIncorrectIdentity) {
		return err
	}
	if _, missing := errors.AsType[*plugin.NotFoundError](err); missing {
		return fmt.Errorf("%w: the program age-plugin-%s is not in the PATH: install it", ErrPlugin, name)
	}
	return fmt.Errorf("%w: age-plugin-%s: %w", ErrPlugin, name, err)
}
