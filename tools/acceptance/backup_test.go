package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// A chain is slots that one writer counts up in their order, one commit after the
// other: in every state that existed none is ahead of the one before it, and the first
// is at most one ahead of the last.
const links = 4

type chain struct {
	client *sidecar.Client
	name   string
	acked  [links]atomic.Uint64
	sent   [links]atomic.Uint64
}

func (c *chain) link(i int) string { return fmt.Sprintf("&name=%s-%d", c.name, i) }

// grow counts until ctx ends.
func (c *chain) grow(ctx context.Context, t *testing.T) {
	for n := uint64(1); ctx.Err() == nil; n++ {
		for i := range links {
			c.sent[i].Store(n)
			a, err := c.client.Try(http.MethodPut, slot("sftp", "staging")+c.link(i), value(strconv.FormatUint(n, 10)))
			if err != nil || a.Status/100 != 2 {
				t.Errorf("%s: a set failed while a backup was taken: %v", c.name, err)
				return
			}
			c.acked[i].Store(n)
		}
	}
}

// span is what each slot of a chain held at least and at most, while a backup was taken.
type span struct{ least, most [links]uint64 }

func (c *chain) least() (n [links]uint64) {
	for i := range n {
		n[i] = c.acked[i].Load()
	}
	return n
}

func (c *chain) most() (n [links]uint64) {
	for i := range n {
		n[i] = c.sent[i].Load()
	}
	return n
}

// existed fails the test unless the chain, as it was restored, is in a state that it was
// in during the backup.
func (c *chain) existed(t *testing.T, restored *sidecar.Client, during span) {
	t.Helper()
	var got [links]uint64
	for i := range got {
		shown := sidecar.Data[wire.Resolved](restored.Get(resolve("sftp", "staging") + c.link(i)).Wants(http.StatusOK))
		n, err := strconv.ParseUint(shown.Value.Reveal(), 10, 64)
		if err != nil {
			t.Fatal("a value is none that was set")
		}
		got[i] = n
		if n < during.least[i] || n > during.most[i] {
			t.Errorf("%s-%d: restored %d, and during the backup it was from %d to %d", c.name, i, n, during.least[i], during.most[i])
		}
		if i > 0 && n > got[i-1] {
			t.Errorf("%s: %v never existed", c.name, got)
		}
	}
	if got[0] > got[links-1]+1 {
		t.Errorf("%s: %v never existed", c.name, got)
	}
}

// written is a vault that is written to, from two hosts where they can share it.
type written struct {
	*sidecar.Sidecar
	chains []*chain
	stop   func()
}

func underLoad(t *testing.T, on *sidecar.Binary) *written {
	t.Helper()
	v := on.Init(t)
	l := &written{Sidecar: v.Start(t)}
	l.fill(t)
	clients := []*sidecar.Client{l.Admin(), l.Admin(), l.Admin(), l.Admin()}
	if v.URL != "" {
		clients = append(clients[2:], v.OtherHost(t).Start(t).Admin())
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i, client := range clients {
		c := &chain{client: client, name: fmt.Sprint("chain", i)}
		l.chains = append(l.chains, c)
		wg.Go(func() { c.grow(ctx, t) })
	}
	l.stop = func() {
		cancel()
		wg.Wait()
	}
	t.Cleanup(l.stop)
	until(t, "every chain is there", func() bool {
		for _, c := range l.chains {
			if c.least()[links-1] == 0 {
				return false
			}
		}
		return true
	})
	return l
}

// fill makes a backup take long enough for something to change meanwhile.
func (l *written) fill(t *testing.T) {
	const credentials, writers = 240, 8
	c := l.Admin()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < credentials; i += writers {
				a, err := c.Try(http.MethodPut, named(slot("slack", "production"), fmt.Sprint("still-", i)), value(padding))
				if err != nil || a.Status != http.StatusCreated {
					t.Errorf("fill: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// backUp takes a backup with the command, and says what the chains held meanwhile.
func (l *written) backUp(t *testing.T) (file string, during []span) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "backup.age")
	during = make([]span, len(l.chains))
	for i, c := range l.chains {
		during[i].least = c.least()
	}
	wants(t, l.Run("", "backup", file), 0, "Wrote "+file)
	for i, c := range l.chains {
		during[i].most = c.most()
	}
	return file, during
}

// wants fails the test unless a command ended so and said so, in a line and a hint when
// it failed.
func wants(t *testing.T, o sidecar.Outcome, code int, parts ...string) {
	t.Helper()
	said := o.Stdout + o.Stderr
	if o.Code != code {
		t.Fatalf("exit code %d, want %d:\n%s", o.Code, code, said)
	}
	if code != 0 && strings.Count(o.Stderr, "\n") > 2 {
		t.Errorf("it says more than a line and a hint:\n%s", o.Stderr)
	}
	for _, part := range parts {
		if !strings.Contains(said, part) {
			t.Errorf("it does not say %q:\n%s", part, said)
		}
	}
}

// verified is what sidevault backup verify says of a good backup.
type verified struct {
	VersionsChecked, AuditEntries uint64
	AuditHead                     string
	VersionsLocked                map[string]uint64
	Damaged                       []string
}

func verifyBackup(t *testing.T, v *sidecar.Vault, file string) (got verified) {
	t.Helper()
	o := binary.Run(t, "", nil, "backup", "verify", file, "--data-dir", v.Dir, "--json")
	if wants(t, o, 0); json.Unmarshal([]byte(o.Stdout), &got) != nil {
		t.Fatal("backup verify prints no JSON")
	}
	if got.VersionsChecked == 0 || len(got.Damaged)+len(got.VersionsLocked) > 0 {
		t.Errorf("verified %+v", got)
	}
	return got
}

// restoreInto restores a backup into empty storage, and returns the vault that it has
// become on a host that had nothing of it but the identity.
func restoreInto(t *testing.T, of *sidecar.Vault, file string, storage sidecar.Storage) (v *sidecar.Vault, restore []string) {
	t.Helper()
	restored := *of
	base := t.TempDir()
	restored.Dir, restored.URL = filepath.Join(base, "data"), ""
	if storage != nil {
		restored.URL = storage(t, base)
	}
	restore = append([]string{"restore", file}, restored.Args("--identity", of.File("identity.txt"))...)
	wants(t, binary.Run(t, "", nil, restore...), 0, "Restored the vault", of.Recipient(t), "Next: sidevault serve --data-dir "+restored.Dir)
	if restored.Recipient(t) != of.Recipient(t) {
		t.Error("the restored vault is pinned to another control key")
	}
	return &restored, restore
}

// TestBackupUnderLoad restores what was backed up from each storage into each, and finds
// a state that existed.
func TestBackupUnderLoad(t *testing.T) { onEach(t, testBackupUnderLoad) }

func testBackupUnderLoad(t *testing.T, on *sidecar.Binary) {
	l := underLoad(t, on)
	first, _ := l.backUp(t)
	file, during := l.backUp(t)
	l.stop()
	before, said := verifyBackup(t, l.Vault, first), verifyBackup(t, l.Vault, file)
	if before.AuditEntries >= said.AuditEntries {
		t.Errorf("the first backup has %d audit entries, the second %d: nothing was written meanwhile", before.AuditEntries, said.AuditEntries)
	}
	for name, storage := range map[string]sidecar.Storage{"bbolt": nil, "postgres": sidecar.Postgres, "etcd": sidecar.Etcd} {
		v, restore := restoreInto(t, l.Vault, file, storage)
		wants(t, binary.Run(t, "", nil, restore...), 5, "not empty")
		wants(t, verifyOffline(t, v), 0, "intact")
		s := v.Start(t, "--identity", l.File("identity.txt"))
		for i, c := range l.chains {
			c.existed(t, s.Admin(), during[i])
		}
		entries := auditOf(s.Admin(), "restore_vault")
		if len(entries) != 1 || entries[0].Seq != said.AuditEntries+1 || entries[0].Prev != said.AuditHead {
			t.Errorf("into %s: the log does not go on from entry %d of the backup: %+v", name, said.AuditEntries, entries)
		}
		s.Admin().Put(slot("slack", ""), value("after the restore")).Wants(http.StatusCreated)
		s.Stop()
	}
	// The vault that was backed up is as it was.
	target := filepath.Join(t.TempDir(), "data")
	l.Stop()
	wants(t, binary.Run(t, "", nil, "restore", file, "--data-dir", target, "--backend", l.Storage(), "--identity", l.File("identity.txt")), 5, "not empty")
	wantsNothing(t, filepath.Dir(target))
	wants(t, verifyOffline(t, l.Vault), 0, "intact")
}

// wantsNothing fails the test if there is something in a directory but for what is
// named.
func wantsNothing(t *testing.T, dir string, but ...string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	hidden, err2 := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	for _, path := range append(left, hidden...) {
		known := false
		for _, name := range but {
			known = known || filepath.Base(path) == name
		}
		if !known {
			t.Errorf("%s was left behind", path)
		}
	}
}
