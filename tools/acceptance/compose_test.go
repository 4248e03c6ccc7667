package acceptance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/sidevault/sidevault/backends/testserver"
	"github.com/sidevault/sidevault/tools/acceptance/guide"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

const composeDir = root + "/deploy/compose"

// readCompose loads the file as Docker Compose does: what the specification's schema does
// not have, and a name that nothing has, is an error.
func readCompose(t *testing.T) *types.Project {
	t.Helper()
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  composeDir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(composeDir, "compose.yaml")}},
	}, func(o *loader.Options) { o.SetProjectName("sidevault", false) })
	must(t, err)
	return project
}

func TestComposeIsHardened(t *testing.T) {
	project := readCompose(t)
	if len(project.Services) != 3 {
		t.Fatalf("%d services", len(project.Services))
	}
	for name, s := range project.Services {
		if !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s is not confined", name)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s to %q", name, p.Published, p.HostIP)
			}
		}
		if s.HealthCheck == nil && name != "billing" {
			t.Errorf("%s has no health check", name)
		}
		if len(s.Secrets) == 0 {
			t.Errorf("%s has no secret", name)
		}
		for variable, value := range s.Environment {
			if upper := strings.ToUpper(variable); strings.Contains(upper, "PASSWORD") && !strings.HasSuffix(upper, "_FILE") || value == nil {
				t.Errorf("%s: %s is no file", name, variable)
			}
		}
	}
	sidevault, service := project.Services["sidevault"], project.Services["billing"]
	if sidevault.User != "65532:65532" || service.NetworkMode != "service:sidevault" || !bool(project.Networks["storage"].Internal) {
		t.Error("the users or the networks are others")
	}
	if name, _, _ := strings.Cut(sidevault.Image, ":"); name != "ghcr.io/sidevault/sidevault" {
		t.Errorf("the image is %s", sidevault.Image)
	}
}

// composed is a service's container as a process of this host.
func composed(t *testing.T, s types.ServiceConfig, project *types.Project, files string, put ...string) *guide.Reader {
	t.Helper()
	r := at(t, t.TempDir())
	for _, v := range s.Volumes {
		r.Put(v.Target, filepath.Join(files, v.Source))
	}
	for _, secret := range s.Secrets {
		source, err := filepath.Rel(composeDir, project.Secrets[secret.Source].File)
		must(t, err)
		r.Put("/run/secrets/"+secret.Source, filepath.Join(files, source))
	}
	for i := 0; i < len(put); i += 2 {
		r.Put(put[i], put[i+1])
	}
	r.Put("/usr/bin/sidevault", "sidevault")
	settings := settingsThere(t)
	for name, value := range s.Environment {
		if strings.HasPrefix(name, "SIDEVAULT_") && !settings[name] {
			t.Errorf("there is no setting %s", name)
		}
		r.Export(name, r.Typed(*value))
	}
	return r
}

// TestCompose makes the vault as docs/deployment.md says, and serves it.
func TestCompose(t *testing.T) {
	t.Parallel()
	searchPath(t)
	project, files := readCompose(t), t.TempDir()
	must(t, os.Mkdir(filepath.Join(files, "vault"), 0o700)) // a volume is as the image has the directory
	operator := at(t, files)
	operator.Follow(t, guide.Under(guide.Read(t, root+"/docs/deployment.md"), "Docker Compose"))
	server := testserver.Postgres(t)
	url := sidecar.Postgres(t, files) // with the server's password, in place of the one that was made
	_, database, _ := strings.Cut(strings.Split(url, "?")[0], server.Address()+"/")
	must(t, os.Rename(filepath.Join(files, "pgpass"), filepath.Join(files, "secrets", "pgpass")))

	s := project.Services["sidevault"]
	r := composed(t, s, project, files, "sidevault@postgres:5432/sidevault", testserver.PostgresOwner+"@"+server.Address()+"/"+database)
	say := func(text, prints string) guide.Block {
		return guide.Block{Document: s.Name, Text: text + "\n", Language: "text", Prints: prints}
	}
	r.Follow(t, []guide.Block{{Document: s.Name, Text: "sidevault init --admin-key-file admin.key\n"}})
	r.Follow(t, []guide.Block{{Document: s.Name, Text: "sidevault " + strings.Join(s.Command, " ") + "\n"}})
	if s.HealthCheck.Test[0] != "CMD" {
		t.Error("the image has no shell for the health check")
	}
	r.Follow(t, []guide.Block{
		say(strings.Join(s.HealthCheck.Test[1:], " "), "ok"),
		say("SIDEVAULT_TOKEN_FILE=admin.key sidevault key create --name billing -e staging --integration slack > "+filepath.Join(files, "secrets", "billing.key"), ""),
		say("printf 'a token' | SIDEVAULT_TOKEN_FILE=admin.key sidevault set slack", "Set slack in all environments: ..."),
	})
	service := composed(t, project.Services["billing"], project, files, "127.0.0.1:8271", r.Typed("127.0.0.1:8271"))
	service.Follow(t, []guide.Block{say("sidevault get slack -e staging", "a token")})
}

// newCertificate writes a certificate of 127.0.0.1's own, and its key.
func newCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sidevault"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return cert, key
}
