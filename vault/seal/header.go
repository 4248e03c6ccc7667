package seal

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"

	"filippo.io/age"
)

// header is how an age file begins (age-encryption.org/v1): a file key of its own, encrypted to
// the recipient, and the payload's nonce. It needs no plaintext, and takes ten times
// as long as encrypting a usual one.
type header struct {
	file    *bytes.Buffer
	payload io.WriteCloser // encrypts into file; for one plaintext
	made    time.Time
}

func newHeader(to age.Recipient) (*header, error) {
	file := new(bytes.Buffer)
	payload, err := age.Encrypt(file, to)
	if err != nil {
		return nil, err
	}
	return &header{file, payload, time.Now()}, nil
}

// aheadFor is for how long a header may be used, and within what time of one another files
// must be encrypted for the next header to be made ahead. It is short: of a machine that is
// copied while it runs, both copies have the header, and two plaintexts of one file key give
// each other away.
const aheadFor = 100 * time.Millisecond

// headers makes those of the files for a recipient. Who encrypts one file after the other,
// with the disk to wait for in between, finds the next header made.
type headers struct {
	to     age.Recipient
	next   atomic.Pointer[header]
	making atomic.Bool
	taken  atomic.Int64 // when a header was last, in nanoseconds of Unix time
}

// encrypt returns plain as an age file.
func (h *headers) encrypt(plain []byte) ([]byte, error) {
	begun, err := h.take()
	if err != nil {
		return nil, err
	}
	if _, err := begun.payload.Write(plain); err != nil {
		return nil, err
	}
	if err := begun.payload.Close(); err != nil {
		return nil, err
	}
	return begun.file.Bytes(), nil
}

// take returns a header that nobody else gets.
func (h *headers) take() (taken *header, err error) {
	now := time.Now()
	if taken = h.next.Swap(nil); taken == nil || now.Sub(taken.made) > aheadFor {
		if taken, err = newHeader(h.to); err != nil {
			return nil, err
		}
	}
	last := h.taken.Swap(now.UnixNano())
	if now.Sub(time.Unix(0, last)) <= aheadFor && h.making.CompareAndSwap(false, true) {
		go h.make()
	}
	return taken, nil
}

// make leaves an error to the next who takes, and meets it.
func (h *headers) make() {
	defer h.making.Store(false)
	if made, err := newHeader(h.to); err == nil {
		h.next.Store(made)
	}
}
