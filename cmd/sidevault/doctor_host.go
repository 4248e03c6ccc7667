package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/vault"
)

// examineHost looks at what the settings name on this host.
func (d *doctor) examineHost(ctx context.Context, named bool) {
	if !named && !exists(d.cfg.DataDir) {
		d.say(severityUnseen, "data directory", "give --data-dir DIR or --config FILE where the sidecar runs", "there is no vault in %s", d.cfg.DataDir)
	} else if err := d.cfg.checkDataDir(); err != nil {
		d.fault("data directory", err)
	} else if d.examineFiles() {
		d.examineDisk()
		d.examineStorage(ctx)
	}
	d.examineTLSFiles()
	d.examinePrograms()
	if _, err := loadCatalog(d.cfg); err != nil {
		d.fault("catalog", err)
	} else {
		d.say(severityOK, "catalog", "", "it is valid")
	}
	d.examineMemory()
	d.examineClock()
}

// examineFiles looks at who can read and change the files of the vault, and reports
// whether this user can look at them at all.
func (d *doctor) examineFiles() bool {
	if _, err := os.ReadDir(d.cfg.DataDir); err != nil {
		d.fault("data directory", err)
		return false
	}
	d.say(severityOK, "data directory", "", "%s is its owner's alone", d.cfg.DataDir)
	for _, path := range d.cfg.Identities {
		data, err := readPrivate("identity file", path, maxIdentityFile)
		clear(data)
		switch {
		case err != nil:
			d.fault("identity", err)
		case filepath.Dir(path) == d.cfg.DataDir:
			d.say(severityInfo, "identity", "move it elsewhere, and name it with --identity", "%s lies beside the vault: a copy of the directory opens everything", path)
		default:
			d.say(severityOK, "identity", "", "%s is its owner's alone", path)
		}
	}
	if _, err := readTrust(filepath.Join(d.cfg.DataDir, trustFile)); err != nil {
		d.fault("trust anchor", err)
	}
	d.private("vault file", d.cfg.Storage.path)
	d.private("settings", d.cfg.backendFile)
	if info, err := os.Stat(d.cfg.file); err == nil && info.Mode().Perm()&0o022 != 0 {
		d.say(severityWarning, "settings", "chmod go-w "+quoted(d.cfg.file), "%s can be changed by others (mode %04o)", d.cfg.file, info.Mode().Perm())
	}
	d.private("API key", d.tokenFile)
	d.private("API key", d.sh.getenv(tokenFileVariable))
	return true
}

// private warns of a file that others can read.
func (d *doctor) private(check, path string) {
	if path == "" {
		return
	}
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		d.say(severityWarning, check, "chmod 600 "+quoted(path), "%s is accessible to others (mode %04o)", path, info.Mode().Perm())
	}
}

// Bounds of what a disk should have and do.
const (
	spaceLow   = 512 << 20
	spaceOut   = 64 << 20
	syncSlow   = 50 * time.Millisecond
	syncRounds = 9
)

// examineDisk looks at the disk of the data directory: every set waits for it.
func (d *doctor) examineDisk() {
	const check = "disk"
	var s unix.Statfs_t
	if err := unix.Statfs(d.cfg.DataDir, &s); err != nil {
		d.fault(check, &fs.PathError{Op: "look at", Path: d.cfg.DataDir, Err: err})
		return
	}
	free := uint64(s.Bavail) * uint64(s.Bsize)
	cure := "free some space on the file system of " + quoted(d.cfg.DataDir)
	switch {
	case free < spaceOut:
		d.say(severityError, check, cure, "%d MiB are free: changes will fail, and reads stop once their audit cannot be written", free>>20)
	case free < spaceLow:
		d.say(severityWarning, check, cure, "%d MiB are free", free>>20)
	default:
		d.say(severityOK, check, "", "%d MiB are free", free>>20)
	}
	if s.Files > 0 && s.Ffree < 1000 {
		d.say(severityWarning, check, "remove files that are not needed", "%d files can be made yet", s.Ffree)
	}
	if d.cfg.Storage.shared() {
		return
	}
	took, err := syncTime(d.cfg.DataDir)
	switch {
	case err != nil:
		d.fault(check, err)
	case took > syncSlow:
		d.say(severityWarning, check, "put the data directory on a faster disk, not on a network file system", "a write takes %s to be on the disk, and every set waits for one", took.Round(time.Millisecond))
	default:
		d.say(severityOK, check, "", "a write takes %s to be on the disk", took.Round(10*time.Microsecond))
	}
}

// syncTime returns the median time of a write of one page to a disk.
func syncTime(dir string) (median time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// It stays open without a name, so that an interruption leaves nothing.
	if err := os.Remove(f.Name()); err != nil {
		return 0, err
	}
	var took []time.Duration
	for range syncRounds {
		start := time.Now()
		if _, err := f.WriteAt(make([]byte, os.Getpagesize()), 0); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// examineStorage opens the storage where no sidecar says how it is.
func (d *doctor) examineStorage(ctx context.Context) {
	const check = "backend"
	if d.reached && !d.cfg.Storage.shared() {
		return // the sidecar has it open, and said how it is
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	backend, err := openStorage(ctx, d.cfg.Storage, open.Options{ReadOnly: true})
	if err != nil {
		d.fault(check, err)
		return
	}
	defer backend.Close()
	if _, err := vault.StoredEnvironments(ctx, backend); err != nil {
		d.fault(check, err)
		return
	}
	d.say(severityOK, check, "", "%s can be read", d.cfg.Storage)
	if !d.reached {
		d.say(severityUnseen, "audit log", "sidevault audit verify --data-dir "+quoted(d.cfg.DataDir), "its chain is walked by a command of its own while no sidecar runs")
	}
}

// examineTLSFiles looks at the listener's certificate.
func (d *doctor) examineTLSFiles() {
	if d.cfg.TLSCert == "" {
		return
	}
	pair, err := tls.LoadX509KeyPair(d.cfg.TLSCert, d.cfg.TLSKey)
	if err != nil {
		d.fault("certificate", err)
		return
	}
	d.private("certificate", d.cfg.TLSKey)
	d.certificate(d.cfg.TLSCert, pair.Leaf)
}

const renewBefore = 30 * 24 * time.Hour

func (d *doctor) certificate(where string, leaf *x509.Certificate) {
	const cure = "renew it, then reload the sidecar with SIGHUP"
	end := leaf.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case d.now.After(leaf.NotAfter):
		d.say(severityError, "certificate", cure, "%s expired on %s", where, end)
	case d.now.Before(leaf.NotBefore):
		d.say(severityError, "certificate", "look at this host's clock", "%s is not valid before %s", where, leaf.NotBefore.UTC().Format(time.RFC3339))
	case leaf.NotAfter.Sub(d.now) < renewBefore:
		d.say(severityWarning, "certificate", cure, "%s expires on %s", where, end)
	default:
		d.say(severityOK, "certificate", "", "%s is valid until %s", where, end)
	}
}

// examineEndpoint looks at the certificate that the sidecar answers with.
func (d *doctor) examineEndpoint(ctx context.Context) {
	host, secure := strings.CutPrefix(d.address(), "https://")
	if !secure {
		return
	}
	host = strings.TrimSuffix(host, "/")
	if _, _, err := net.SplitHostPort(host); err != nil {
		host += ":443"
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	conn, err := new(tls.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		d.fault("certificate", err)
		return
	}
	defer conn.Close()
	if secured, ok := conn.(*tls.Conn); ok && len(secured.ConnectionState().PeerCertificates) > 0 {
		d.certificate(d.address(), secured.ConnectionState().PeerCertificates[0])
	}
}

// examinePrograms compares the plugins with their pins.
func (d *doctor) examinePrograms() {
	const check = "plugin files"
	for _, spec := range d.cfg.Programs {
		program, err := spec.program(d.cfg.PluginDir, false)
		if err != nil {
			d.fault(check, err)
			continue
		}
		pinned := map[string]string{program.Path: program.SHA256}
		for path, sum := range program.Files {
			pinned[path] = sum
		}
		good := true
		for path, sum := range pinned {
			good = d.pinned(check, spec.Name, path, sum) && good
		}
		if good {
			d.say(severityOK, check, "", "%s is what is pinned", spec.Name)
		}
	}
}

func (d *doctor) pinned(check, name, path, want string) bool {
	got, err := fileSum(path)
	if err != nil {
		d.fault(check, err)
		return false
	}
	if len(want) != 2*sha256.Size || strings.EqualFold(got, want) {
		return true
	}
	d.say(severityError, check, "if "+path+" is what it should be, pin it: sha256: "+got, "%s: %s is not the file that is pinned, and is not run", name, path)
	return false
}
