package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// The sizes of a signing key, in bytes, are those of the specification; a file may hold
// several, while one replaces another.
const (
	minKeySize  = 24
	maxKeySize  = 64
	maxFileSize = 4 << 10
	keyPrefix   = "whsec_"
)

// keys sign messages, each on its own, as Standard Webhooks 1.0 specifies
// (https://www.standardwebhooks.com).
type keys [][]byte

// readKeys reads a file with a key on every line: whsec_ and base64. Its errors quote
// nothing of the file.
func readKeys(name string) (keys, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("the signing secret: %w; list it under read of the plugin", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFileSize))
	if err != nil {
		return nil, fmt.Errorf("the signing secret: %w", err)
	}
	var k keys
	for _, line := range strings.Fields(string(text)) {
		encoded, ok := strings.CutPrefix(line, keyPrefix)
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < minKeySize || len(key) > maxKeySize {
			return nil, fmt.Errorf("the signing secret: %s must hold whsec_ and %d to %d bytes in base64 on every line", name, minKeySize, maxKeySize)
		}
		k = append(k, key)
	}
	if len(k) == 0 {
		return nil, errors.New("the signing secret: the file is empty")
	}
	return k, nil
}

// sign returns the header webhook-signature: for every key v1, and the HMAC-SHA256 of
// the message's ID, its time and its body, with dots between them.
func (k keys) sign(id string, at time.Time, body []byte) string {
	signatures := make([]string, len(k))
	for i, key := range k {
		mac := hmac.New(sha256.New, key)
		io.WriteString(mac, id+"."+strconv.FormatInt(at.Unix(), 10)+".")
		mac.Write(body)
		signatures[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(signatures, " ")
}

// messageID is the same whenever a change is sent again, and has no dots, which part
// what is signed.
func messageID(idempotencyKey string) string {
	sum := sha256.Sum256([]byte(idempotencyKey))
	return "msg_" + hex.EncodeToString(sum[:16])
}
