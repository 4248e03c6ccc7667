package seal

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"filippo.io/age"
)

// opening is how an age file begins: its header, with a file key of its own, and a nonce.
// It takes no plaintext to make, and ten times as long as encrypting a usual one.
type opening struct {
	file *bytes.Buffer
	body io.WriteCloser // encrypts into file; for one plaintext
	made time.Time
}

func newOpening(to age.Recipient) (*opening, error) {
	file := new(bytes.Buffer)
	body, err := age.Encrypt(file, to)
	if err != nil {
		return nil, err
	}
	return &opening{file, body, time.Now()}, nil
}

// seal returns the file with its plaintext. It may be called once.
func (o *opening) seal(plain []byte) ([]byte, error) {
	if _, err := o.body.Write(plain); err != nil {
		return nil, err
	}
	if err := o.body.Close(); err != nil {
		return nil, err
	}
	return o.file.Bytes(), nil
}

// aheadFor is for how long an opening may be used, and within what time of one another
// records must be sealed for the next opening to be made ahead. It is short: of a machine that
// is copied while it runs, both copies have the opening, and two plaintexts of one file
// key give each other away.
const aheadFor = 100 * time.Millisecond

// ahead makes openings for a recipient. Who seals one record after the other, with the disk
// to wait for in between, finds the next opening made.
type ahead struct {
	to     age.Recipient
	next   atomic.Pointer[opening]
	making atomic.Bool
	taken  atomic.Int64 // when an opening was last, in nanoseconds of Unix time
}

// take returns an opening that nobody else gets.
func (a *ahead) take() (o *opening, err error) {
	now := time.Now()
	if o = a.next.Swap(nil); o == nil || now.Sub(o.made) > aheadFor {
		if o, err = newOpening(a.to); err != nil {
			return nil, fmt.Errorf("encrypt a record: %w", err)
		}
	}
	last := a.taken.Swap(now.UnixNano())
	if now.Sub(time.Unix(0, last)) <= aheadFor && a.making.CompareAndSwap(false, true) {
		go a.make()
	}
	return o, nil
}

// make leaves an error to the next who takes, and meets it.
func (a *ahead) make() {
	defer a.making.Store(false)
	if o, err := newOpening(a.to); err == nil {
		a.next.Store(o)
	}
}
