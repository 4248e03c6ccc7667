package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func adminKey(t *testing.T, p *process) string {
	t.Helper()
	return strings.TrimSpace(readFile(t, p.keyFile))
}

// A request whose body is still on its way when SIGTERM comes is answered.
func TestSIGTERMFinishesRequests(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	host := strings.TrimPrefix(p.addr, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"value":"slow"}`
	fmt.Fprintf(conn, "PUT /v1/integrations/salesforce/credentials HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", host, adminKey(t, p), len(body), body[:5])
	time.Sleep(100 * time.Millisecond) // for the handler to begin
	p.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "new connections are refused", func() bool {
		c, err := net.Dial("tcp", host)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	fmt.Fprint(conn, body[5:])
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Errorf("status %d", res.StatusCode)
	}
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.log)
	}
	sidevault(t, "audit", "verify", "--data-dir", dir).wants(t, exitOK, "intact")
}

func TestSIGTERMFlushesAudit(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t)
	p.cli(t, "shared", "set", "salesforce").wants(t, exitOK)
	for range 3 {
		req, _ := http.NewRequest(http.MethodGet, p.addr+"/v1/credentials/salesforce", nil)
		req.Header.Set("Authorization", "Bearer "+adminKey(t, p))
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		res.Body.Close()
	}
	if code := p.signalled(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d\n%s", code, &p.log)
	}
	again := startServe(t, p.keyFile, "--data-dir", dir)
	got := again.cli(t, "", "audit", "list", "--action", "read_integration_credentials", "--json")
	got.wants(t, exitOK)
	var entries []struct{ Metadata struct{ Count int } }
	if err := json.Unmarshal([]byte(got.out), &entries); err != nil {
		t.Fatal(err)
	}
	reads := 0
	for _, e := range entries {
		reads += e.Metadata.Count
	}
	if reads != 3 {
		t.Errorf("%d of 3 reads are in the audit log:\n%s", reads, got.out)
	}
}

// A request that never ends does not keep the sidecar from ending.
func TestSIGTERMTimeout(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t, "--shutdown-timeout", "1s")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.addr, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /v1/integrations/salesforce/credentials HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{", adminKey(t, p))
	time.Sleep(100 * time.Millisecond)
	start := time.Now()
	if code := p.signalled(t, syscall.SIGTERM); code != 0 || time.Since(start) > 5*time.Second {
		t.Errorf("exit code %d after %s\n%s", code, time.Since(start), &p.log)
	}
	sidevault(t, "audit", "verify", "--data-dir", dir).wants(t, exitOK, "intact")
}

func TestSecondSignalQuits(t *testing.T) {
	t.Parallel()
	p, _ := serveVault(t, "--shutdown-timeout", "1h")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.addr, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "PUT /v1/integrations/salesforce/credentials HTTP/1.1\r\nHost: localhost\r\n")
	time.Sleep(100 * time.Millisecond)
	p.cmd.Process.Signal(os.Interrupt)
	eventually(t, "it shuts down", func() bool { return strings.Contains(p.log.String(), "shutting down") })
	if code := p.signalled(t, os.Interrupt.(syscall.Signal)); code == 0 {
		t.Errorf("exit code %d", code)
	}
}

const acme = `integrations:
  - key: acme
    name: Acme
    category: crm
    authTypes: [api_key]
    fields:
      - {name: api_key, required: true}
`

func TestSIGHUP(t *testing.T) {
	t.Parallel()
	file := writeFile(t, filepath.Join(t.TempDir(), "catalog.yaml"), "# nothing yet\n", 0o600)
	p, _ := serveVault(t, "--catalog", file)
	p.cli(t, "", "catalog", "show", "acme").wants(t, exitNotFound, "catalog list")
	writeFile(t, file, acme, 0o600)
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "it reloads", func() bool { return strings.Contains(p.log.String(), "the catalog was reloaded") })
	p.cli(t, "", "catalog", "show", "acme").wants(t, exitOK, "Acme", "api_key")
	writeFile(t, file, acme+"  - nonsense: 1\n", 0o600)
	p.cmd.Process.Signal(syscall.SIGHUP)
	eventually(t, "it complains", func() bool { return strings.Contains(p.log.String(), "the old one stays in force") })
	if !strings.Contains(p.log.String(), "catalog.yaml:8:") {
		t.Errorf("the log does not say where:\n%s", &p.log)
	}
	p.cli(t, "", "catalog", "show", "acme").wants(t, exitOK, "Acme")
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	short, err := os.MkdirTemp("", "sv") // a socket's path has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	path := filepath.Join(short, "s.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	p, dir := serveVault(t, "--listen", "unix://"+path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	p.cli(t, "", "env", "list").wants(t, exitOK, "production")
	other, _ := makeVault(t)
	sidevault(t, "serve", "--data-dir", other, "--listen", "unix://"+path).wants(t, exitError, "in use by another program")
	p.cli(t, "", "env", "list").wants(t, exitOK, "production")
	if p.signalled(t, syscall.SIGTERM); exists(path) {
		t.Error("the socket was left behind")
	}
	_ = dir
}

func TestTLS(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	cert, key := filepath.Join(base, "cert.pem"), filepath.Join(base, "key.pem")
	makeCertificate(t, cert, key)
	p, _ := serveVault(t, "--tls-cert", cert, "--tls-key", key)
	got := invocation{
		env: []string{addrVariable + "=" + strings.Replace(p.addr, "http:", "https:", 1),
			tokenFileVariable + "=" + p.keyFile, "SSL_CERT_FILE=" + cert},
		args: []string{"env", "list"},
	}.run(t)
	got.wants(t, exitOK, "production")
}

func makeCertificate(t *testing.T, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600)
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), 0o600)
}

// The lines of the banner work when they are pasted, in any directory.
func TestDevBanner(t *testing.T) {
	t.Parallel()
	for _, curl := range []string{"curl", "sh"} {
		if _, err := exec.LookPath(curl); err != nil {
			t.Skipf("no %s here", curl)
		}
	}
	dir := filepath.Join(t.TempDir(), "with space")
	p := startServe(t, "", "--dev", "--data-dir", dir)
	pasteBanner(t, p)
	if strings.Count(p.out.String(), "svk_") != 1 {
		t.Errorf("the key is not shown once:\n%s", &p.out)
	}
	if info, err := os.Stat(filepath.Join(dir, adminKeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the admin key's file: %v, %v", info, err)
	}
	if code := p.signalled(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	again := startServe(t, "", "--dev", "--data-dir", dir)
	if strings.Contains(again.out.String(), "svk_") {
		t.Error("the key is shown a second time")
	}
	eventually(t, "the banner", func() bool { return len(curls(again)) == 5 })

	memory := startServe(t, "", "--dev")
	pasteBanner(t, memory)
}

func curls(p *process) (lines []string) {
	for line := range strings.Lines(p.out.String()) {
		if strings.HasPrefix(line, "curl ") {
			lines = append(lines, line)
		}
	}
	return lines
}

func pasteBanner(t *testing.T, p *process) {
	t.Helper()
	eventually(t, "the banner", func() bool { return len(curls(p)) == 5 })
	want := [][]string{
		{`"wasUpdate":false|"version":1`, `"environment":null`},
		{`"version":1`, `"environment":"production"`},
		{`"value":"shared-value"`, `"resolvedFrom":null`, `"value":"production-value"`, `"resolvedFrom":"production"`},
		{`"success":true`, `"environment":"production"`},
		{"409", "CREDENTIAL_ALREADY_DELETED"},
	}
	for i, line := range curls(p) {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		for _, part := range want[i] {
			if one, other, ok := strings.Cut(part, "|"); !strings.Contains(string(out), one) && !(ok && strings.Contains(string(out), other)) {
				t.Errorf("%s\nanswers without %s:\n%s", line, part, out)
			}
		}
	}
}

// What the program is given and shows by itself holds no secret.
func TestStartupLog(t *testing.T) {
	t.Parallel()
	p, dir := serveVault(t, "--log-level", "debug")
	log := p.log.String()
	for _, part := range []string{`"version"`, `"addresses":["127.0.0.1:`, vaultFile, `"keys_held":["development","staging","production"]`} {
		if !strings.Contains(log, part) {
			t.Errorf("the log lacks %s:\n%s", part, log)
		}
	}
	identity := strings.TrimSpace(readFile(t, filepath.Join(dir, identityFile)))
	private := identity[strings.LastIndex(identity, "\n")+1:]
	if strings.Contains(log, private) || strings.Contains(log, adminKey(t, p)) {
		t.Error("the log holds a secret")
	}
}
