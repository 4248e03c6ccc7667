// Command token is an age plugin for tests: age-plugin-token, whose identities are the
// paths of files that stand for hardware tokens. A file that is not there is a token
// that is not plugged in.
package main

import (
	"errors"
	"os"

	"filippo.io/age"
	"filippo.io/age/plugin"
)

func main() {
	p, err := plugin.New("token")
	if err != nil {
		os.Exit(1)
	}
	p.HandleRecipient(func(data []byte) (age.Recipient, error) { return age.ParseX25519Recipient(string(data)) })
	p.HandleIdentity(func(data []byte) (age.Identity, error) {
		key, err := os.ReadFile(string(data))
		if err != nil {
			return nil, errors.New("the token is not plugged in")
		}
		return age.ParseX25519Identity(string(key))
	})
	os.Exit(p.Main())
}
