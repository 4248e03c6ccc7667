package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/bbolt"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
	"github.com/sidevault/sidevault/vault/seal"
)

// creation is what a new vault is made with.
type creation struct {
	dir          string
	storage      storageURL // bbolt's file is in dir
	identity     string     // paths of the identity files; "": a new one, in dir
	ids          []age.Identity
	recovery     []string
	postQuantum  bool
	adminKeyFile string // "": the admin key goes to no file
	adminEmail   string
	org          string
	envs         *envs.Tree
}

// created is what was made.
type created struct {
	vault.Initialised
	identity string // path of the identity file

	// plant stores the vault in a shared storage; nil: it is in the draft.
	plant func(context.Context) error
}

// draftPattern names the directories in which vaults are built.
const draftPattern = ".init-*"

// undo takes back what something that failed has put somewhere.
type undo struct {
	steps   []func() error
	release func() error // of the lock, whatever happens
}

func (u *undo) add(f func() error) { u.steps = append(u.steps, f) }

func (u *undo) run() (err error) {
	for _, f := range slices.Backward(u.steps) {
		err = errors.Join(err, f())
	}
	return err
}

// create makes a vault in a directory. Everything is built in a directory inside
// it and linked into place at the end, the vault's file last; a link replaces
// nothing. In a shared storage, too, the vault appears last and at once, when what
// opens it is on the disk. When anything fails, or ctx ends, what was made is removed.
func create(ctx context.Context, c creation) (made created, err error) {
	var u undo
	defer func() {
		if err != nil {
			if left := u.run(); left != nil {
				err = failf(exitError, "%s; and something was left behind", err).because(left)
			}
		}
		if u.release != nil {
			u.release()
		}
	}()
	if err := c.claim(&u); err != nil {
		return created{}, err
	}
	draft, err := os.MkdirTemp(c.dir, draftPattern)
	if err != nil {
		return created{}, c.failed(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(draft)) }()
	if made, err = c.build(ctx, draft); err != nil {
		return created{}, c.failed(err)
	}
	if c.adminKeyFile != "" {
		if err := writePrivate(c.adminKeyFile, []byte(made.Admin.Secret.Reveal()+"\n")); err != nil {
			return created{}, c.failed(err)
		}
		u.add(func() error { return os.Remove(c.adminKeyFile) })
	}
	if err := ctx.Err(); err != nil {
		return created{}, c.failed(err)
	}
	if err := c.install(draft, &u); err != nil || made.plant == nil {
		return made, c.failed(err)
	}
	// A draft that is left marks its files as nobody's; from here on they are a vault's.
	if err := os.RemoveAll(draft); err != nil {
		return created{}, c.failed(err)
	}
	switch err := made.plant(ctx); {
	case errors.Is(err, backends.ErrUnknownOutcome):
		// The vault may be there, and what opens it must not be lost.
		u.steps = nil
		return created{}, failf(exitUnavailable, "the storage did not confirm that the vault was made: %s was kept", c.dir).because(err).
			hinted("sidevault serve tells whether the vault is there; if it is not, remove %s and begin again", quoted(c.dir))
	case errors.Is(err, backends.ErrConflict):
		return created{}, c.taken()
	default:
		return made, c.failed(err)
	}
}

// failed says that nothing came of it, unless err has its own words.
func (c creation) failed(err error) error {
	_, said := errors.AsType[*failure](err)
	if e, ok := errors.AsType[*vault.Error](err); said || err == nil || ok && e.Kind == vault.InvalidRequest {
		return err
	}
	if errors.Is(err, context.Canceled) {
		return failf(exitError, "interrupted: no vault was made")
	}
	if errors.Is(err, backends.ErrUnavailable) {
		return failf(exitUnavailable, "make a vault in %s", c.storage).because(err)
	}
	return failf(exitError, "make a vault in %s", c.dir).because(err)
}

// claim makes the directory, or checks that a vault can be made in it.
func (c creation) claim(u *undo) error {
	switch err := os.Mkdir(c.dir, 0o700); {
	case err == nil:
		u.add(func() error { return os.Remove(c.dir) })
	case errors.Is(err, fs.ErrNotExist):
		return failf(exitError, "%s does not exist", filepath.Dir(c.dir)).hinted("mkdir -p %s", quoted(filepath.Dir(c.dir)))
	case !errors.Is(err, fs.ErrExist):
		return failf(exitError, "make the data directory").because(err)
	}
	if err := checkDataDir(c.dir); err != nil {
		return err
	}
	unlock, err := lockDir(c.dir)
	if err != nil {
		return failf(exitConflict, "another init is making a vault in %s", c.dir)
	}
	u.release = unlock
	if err := c.sweep(); err != nil {
		return c.failed(err)
	}
	return c.checkEmpty()
}

// sweep removes what a killed init left: its draft, and the links to files in it.
// The lock keeps other inits out.
func (c creation) sweep() error {
	drafts, err := filepath.Glob(filepath.Join(escapeGlob(c.dir), draftPattern))
	if err != nil || c.inDir() && exists(c.storage.path) {
		return err
	}
	for _, draft := range drafts {
		for _, name := range c.files() {
			linked := filepath.Join(c.dir, name)
			if sameFile(linked, filepath.Join(draft, name)) {
				err = errors.Join(err, os.Remove(linked))
			}
		}
		err = errors.Join(err, os.RemoveAll(draft))
	}
	return err
}

func sameFile(a, b string) bool {
	infoA, errA := os.Lstat(a)
	infoB, errB := os.Lstat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// escapeGlob takes their meaning from a path's wildcards.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func (c creation) checkEmpty() error {
	if c.inDir() && exists(c.storage.path) {
		return failf(exitConflict, "%s already holds a vault; nothing was changed", c.dir).
			hinted("sidevault serve --data-dir %s", quoted(c.dir))
	}
	for _, name := range c.files() {
		if path := filepath.Join(c.dir, name); exists(path) {
			return failf(exitConflict, "%s exists already, and there is no vault to it; nothing was changed", path).
				hinted("give it with --identity if it is the identity to use, else move it away")
		}
	}
	if c.adminKeyFile != "" && exists(c.adminKeyFile) {
		return failf(exitConflict, "%s exists already; nothing was changed", c.adminKeyFile).
			hinted("move it away, or name another file with --admin-key-file")
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// inDir reports whether the vault is a file in the directory.
func (c creation) inDir() bool { return c.storage.path != "" }

// files are the names of what is put into the directory, in that order.
func (c creation) files() []string {
	names := []string{trustFile}
	if c.inDir() {
		names = append(names, filepath.Base(c.storage.path))
	}
	if c.identity == "" {
		names = append([]string{identityFile}, names...)
	}
	return names
}

// build makes the files in the draft directory and proves that they fit.
func (c creation) build(ctx context.Context, draft string) (created, error) {
	identity, ids := c.identity, c.ids
	if identity == "" {
		identity = filepath.Join(draft, identityFile)
		var err error
		if ids, err = writeIdentity(identity, c.postQuantum); err != nil {
			return created{}, err
		}
	}
	roots, err := rootRecipients(ids, c.recovery, c.postQuantum)
	if err != nil {
		return created{}, err
	}
	made, err := c.fill(ctx, draft, ids, roots)
	if err != nil {
		return created{}, err
	}
	anchor := trustAnchor{vaultID: made.VaultID, recipient: made.Trusted}
	if err := writePrivate(filepath.Join(draft, trustFile), []byte(anchor.String())); err != nil {
		return created{}, err
	}
	if c.identity == "" {
		identity = filepath.Join(c.dir, identityFile)
	}
	made.identity = identity
	return made, nil
}

// fill makes the vault's file in the draft directory or, for a shared storage, in
// memory.
func (c creation) fill(ctx context.Context, draft string, ids []age.Identity, roots []string) (made created, err error) {
	if !c.inDir() {
		return c.prepare(ctx, ids, roots)
	}
	path := filepath.Join(draft, filepath.Base(c.storage.path))
	if err := bbolt.Create(path); err != nil {
		return created{}, err
	}
	backend, err := bbolt.Open(path, nil)
	if err != nil {
		return created{}, err
	}
	defer func() { err = errors.Join(err, backend.Close()) }()
	made.Initialised, err = c.initialise(ctx, backend, ids, roots)
	return made, err
}

// initialise makes the vault in an empty backend and opens it once, which makes
// the environments' keys and proves that the identity opens them.
func (c creation) initialise(ctx context.Context, b backends.Backend, ids []age.Identity, roots []string) (vault.Initialised, error) {
	made, err := vault.Init(ctx, vault.InitConfig{
		Backend: b, Roots: roots, Envs: c.envs, Org: c.org, PostQuantum: c.postQuantum, AdminName: "admin", AdminEmail: c.adminEmail,
	})
	if err != nil {
		return vault.Initialised{}, err
	}
	v, err := vault.Open(ctx, vault.Config{
		Backend: b, Envs: c.envs, Catalog: catalog.Builtin(), Identities: ids, Trusted: made.Trusted,
	})
	if err != nil {
		return vault.Initialised{}, err
	}
	return made, v.Close(ctx)
}

func (c creation) install(draft string, u *undo) error {
	for _, name := range c.files() {
		to := filepath.Join(c.dir, name)
		if err := os.Link(filepath.Join(draft, name), to); err != nil {
			return err
		}
		u.add(func() error { return os.Remove(to) })
	}
	return errors.Join(syncDir(c.dir), syncDir(filepath.Dir(c.dir)))
}

// writeIdentity makes an identity file as age-keygen does.
func writeIdentity(path string, postQuantum bool) ([]age.Identity, error) {
	var id age.Identity
	var err error
	if postQuantum {
		id, err = age.GenerateHybridIdentity()
	} else {
		id, err = age.GenerateX25519Identity()
	}
	if err != nil {
		return nil, err
	}
	recipient, err := seal.RecipientOf(id)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	fmt.Fprintf(&file, "# created: %s\n# public key: %s\n%s\n", time.Now().Format(time.RFC3339), recipient, id)
	defer clear(file.Bytes())
	return []age.Identity{id}, writePrivate(path, file.Bytes())
}

// rootRecipients returns the recipients of the identities and those that are named
// besides, which one age file can be encrypted to.
func rootRecipients(ids []age.Identity, more []string, postQuantum bool) ([]string, error) {
	var roots []string
	for _, id := range ids {
		r, err := seal.RecipientOf(id)
		if err != nil && len(more) == 0 {
			return nil, usagef("%s", err).hinted("or name it with --recipient")
		}
		if err == nil && !slices.Contains(roots, r) {
			roots = append(roots, r)
		}
	}
	for _, r := range more {
		if _, err := seal.ParseRecipient(r); err != nil {
			return nil, usagef("--recipient: %s", err).hinted("age-keygen -y IDENTITY prints the recipient of an identity file")
		}
		if !slices.Contains(roots, r) {
			roots = append(roots, r)
		}
	}
	if err := seal.Usable(roots); err != nil {
		return nil, usagef("%s", err).hinted("give identities and recipients of one kind")
	}
	if !postQuantum {
		return roots, nil
	}
	probe, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, err
	}
	if seal.Usable(append([]string{probe.Recipient().String()}, roots...)) != nil {
		return nil, usagef("with --post-quantum every identity and recipient is a hybrid one (age1pq1...)").
			hinted("age-keygen -pq makes one")
	}
	return roots, nil
}
