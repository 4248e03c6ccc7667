package seal_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/sidevault/sidevault/vault/seal"
)

const (
	someRecipient = "age1ule8ejflkcs7du6m6n7n8ua926rdsl60jgt9cl2s0a9cz6fadpfsgnvfmc"
	someSSH       = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@host"
)

// FuzzIdentities reads identity files: an error names a line and quotes nothing, and
// what is read has a recipient.
func FuzzIdentities(f *testing.F) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	private := id.String()
	for _, text := range []string{
		"", private, "# public key: " + someRecipient + "\n" + private + "\n", private[:40], private + private, strings.ToLower(private), "AGE-SECRET-KEY-PQ-1QQQQQQ",
		"# public key: age1evil1qqqq\nAGE-PLUGIN-EVIL-1QQQQQQ\n", "AGE-PLUGIN-..%2f-1QQQQ", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
		"-----BEGIN AGE ENCRYPTED FILE-----\nAAAA\n", "age-encryption.org/v1\n-> scrypt AAAA 30\n", "\xff\xfe", "#\x00\n", "\r\n" + private + "\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		ids, err := seal.ParseIdentities(file)
		if (err == nil) != (len(ids) > 0) {
			t.Fatalf("%d identities, and the error %v", len(ids), err != nil)
		}
		if err != nil {
			shown(t, err.Error())
			for line := range bytes.Lines(file) {
				if line = bytes.TrimSpace(line); len(line) > 24 && strings.Contains(err.Error(), string(line)) {
					t.Error("the error quotes the file")
				}
			}
			return
		}
		for _, id := range ids {
			if r, err := seal.RecipientOf(id); err == nil {
				if _, err := seal.ParseRecipient(r); err != nil {
					t.Error("the recipient of an identity that was read is none")
				}
			}
		}
	})
}

// FuzzRecipient reads recipients, whose faults are named by their character.
func FuzzRecipient(f *testing.F) {
	for _, text := range []string{
		"", "age1", someRecipient, someRecipient[:50], strings.Replace(someRecipient, "q", "p", 1), strings.ToUpper(someRecipient), someRecipient + "q", "age1pq1qqqq", "age1tag1qqqq",
		"age1evil1qqqqqqqqqq", "age1..1qqqq", "age11", "age1\u00e41qqqqqq", someSSH, "ssh-rsa AAAA", "ssh-ed25519 AAAA\nssh-rsa AAAA", "AGE-SECRET-KEY-1QQQ", "\x00", "\xff",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			shown(t, err.Error())
			return
		}
		if r == nil {
			t.Fatal("neither a recipient nor an error")
		}
		if r, ok := r.(*age.X25519Recipient); ok && r.String() != text {
			t.Errorf("%q is read as %q", text, r)
		}
	})
}

// shown holds an error's text to what can be shown to a person.
func shown(t *testing.T, text string) {
	t.Helper()
	if len(text) > 500 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("an error of %d bytes that is not one printable line: %.200q", len(text), text)
	}
}

// FuzzDocuments verifies documents: only what was signed for that key comes out.
func FuzzDocuments(f *testing.F) {
	k := newKey(f, seal.X25519)
	f.Add("vault", []byte(`{"format":1}`), []byte("x"))
	f.Add("live/a/b/@shared/default", []byte(`{}`), k.Sign("live/a/b/@shared/other", []byte(`{}`)))
	f.Add("", []byte(""), []byte("\n"))
	f.Fuzz(func(t *testing.T, key string, doc, foreign []byte) {
		signed := k.Sign(key, doc)
		got, err := k.Verify(key, signed)
		// A document is one line: the signature stands behind it.
		if !bytes.ContainsRune(doc, '\n') && (err != nil || !bytes.Equal(got, doc)) {
			t.Fatal("Verify(Sign(x)) is not x")
		}
		if _, err := k.Verify(key+"x", signed); err == nil {
			t.Fatal("a document is accepted under another key")
		}
		if got, err := k.Verify(key, foreign); err == nil && !bytes.Equal(k.Sign(key, got), foreign) {
			t.Fatal("what was not signed is accepted")
		}
	})
}
