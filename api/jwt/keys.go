package jwt

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// pace says how a key set is kept current.
type pace struct {
	early time.Duration // older: it is read again in the background
	fresh time.Duration // older: callers wait for that, unless it has just failed
	stale time.Duration // older: it is not used, and no token is valid
	retry time.Duration // between two attempts, whatever asks for them
}

// A key that its issuer has withdrawn is refused within fresh of that, and within
// stale while the issuer cannot be reached. A new key is accepted at once, or
// within retry if the set was read just before.
var (
	urlPace  = pace{early: 2 * time.Minute, fresh: 5 * time.Minute, stale: time.Hour, retry: 10 * time.Second}
	filePace = pace{early: time.Second, fresh: time.Second, stale: time.Hour, retry: time.Second}
)

var (
	errNoKeys     = errors.New("there is no current key set to check it with")
	errUnknownKey = errors.New("its key is not in the key set")
)

// keys is the key set in force. It is read again when it is asked for, never by
// itself.
type keys struct {
	read func(context.Context) ([]byte, error)
	pace pace
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex
	set     keySet
	text    []byte        // what set was parsed from
	at      time.Time     // when it was last read, zero: never
	tried   time.Time     // when the last attempt began
	failing bool          // the last attempt failed
	flight  chan struct{} // closed when the attempt under way ends; nil without one
}

// openKeys begins to keep the key set of a file or a URL.
func openKeys(ctx context.Context, place string, log *slog.Logger) (*keys, error) {
	k := &keys{log: log, now: time.Now}
	if !isURL(place) {
		k.read, k.pace = fileReader(place), filePace
		if err := k.load(ctx, k.now()); err != nil {
			return nil, err
		}
		if len(k.set) == 0 {
			return nil, errors.New("the key set has no key that can be used; each has a kid and is a public RSA, EC or Ed25519 key")
		}
		return k, nil
	}
	read, err := urlReader(place)
	if err != nil {
		return nil, err
	}
	k.read, k.pace = read, urlPace
	k.start()
	return k, nil
}

// find returns the key with that kid.
func (k *keys) find(ctx context.Context, kid string) (key, error) {
	age, failing := k.age()
	switch {
	case age >= k.pace.fresh && (!failing || age >= k.pace.stale):
		k.reload(ctx)
	case age >= k.pace.early:
		k.start()
	}
	found, err := k.lookup(kid)
	if !errors.Is(err, errUnknownKey) {
		return found, err
	}
	k.reload(ctx)
	return k.lookup(kid)
}

// age returns how long ago the set was read, and whether reading it fails.
func (k *keys) age() (time.Duration, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.now().Sub(k.at), k.failing
}

func (k *keys) lookup(kid string) (key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.at.IsZero() || k.now().Sub(k.at) >= k.pace.stale {
		return key{}, errNoKeys
	}
	found, ok := k.set[kid]
	if !ok {
		return key{}, errUnknownKey
	}
	return found, nil
}

// reload waits for the attempt under way, or for a new one where one is due.
func (k *keys) reload(ctx context.Context) {
	flight := k.start()
	if flight == nil {
		return
	}
	select {
	case <-flight:
	case <-ctx.Done():
	}
}

// start returns the attempt under way, after beginning one where one is due; nil
// when none is.
func (k *keys) start() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.flight != nil {
		return k.flight
	}
	if !k.tried.IsZero() && now.Sub(k.tried) < k.pace.retry {
		return nil
	}
	flight := make(chan struct{})
	k.tried, k.flight = now, flight
	go func() {
		// It is for all who wait, not for the one who was first.
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		err := k.load(ctx, now)
		if err != nil { // said before those who wait go on
			k.log.Warn("the key set of the tokens' issuer could not be read; the last one is used until it is too old", "err", err)
		}
		k.mu.Lock()
		k.failing, k.flight = err != nil, nil
		k.mu.Unlock()
		close(flight)
	}()
	return flight
}

// load reads the set. One that is not a key set leaves the last one in force; one
// that is takes its place, however many of its keys can be used.
func (k *keys) load(ctx context.Context, now time.Time) error {
	text, err := k.read(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	same := !k.at.IsZero() && bytes.Equal(text, k.text)
	if same {
		k.at = now
	}
	k.mu.Unlock()
	if same {
		return nil
	}
	set, refused, err := parseKeys(text)
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.set, k.text, k.at = set, text, now
	k.mu.Unlock()
	k.log.Info("the key set of the tokens' issuer was read", "keys", len(set))
	if len(refused) > 0 {
		k.log.Warn("keys of the tokens' issuer are not used", "reasons", refused)
	}
	return nil
}
