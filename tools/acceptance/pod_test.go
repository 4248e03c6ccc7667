package acceptance

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sidevault/sidevault/backends/testserver"
	"github.com/sidevault/sidevault/tools/acceptance/guide"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// A pod is what its manifest says, as processes of this host.
type runningPod struct {
	manifest
	t       *testing.T
	volumes map[string]string // directories, by name
	put     []string          // what stands in the manifest, and what takes its place here
}

// newPod makes the volumes. Of each Secret, files are its keys.
func newPod(t *testing.T, name string, secrets map[string]map[string]string) *runningPod {
	t.Helper()
	p := &runningPod{manifest: readManifest(t, name), t: t, volumes: map[string]string{}}
	for _, c := range p.claims {
		p.volumes[c.Name] = t.TempDir()
	}
	for _, v := range p.pod.Spec.Volumes {
		dir := t.TempDir()
		p.volumes[v.Name] = dir
		switch {
		case v.Secret != nil:
			p.project(dir, v.Secret.SecretName, v.Secret.Items, secrets, v.Secret.Optional)
		case v.Projected != nil:
			for _, s := range v.Projected.Sources {
				p.project(dir, s.Secret.Name, s.Secret.Items, secrets, s.Secret.Optional)
			}
		default:
			must(t, os.Chmod(dir, 0o777))
		}
	}
	return p
}

// project writes a Secret as a kubelet does: as links to files that the group can read.
func (p *runningPod) project(dir, name string, items []corev1.KeyToPath, secrets map[string]map[string]string, optional *bool) {
	p.t.Helper()
	data, given := secrets[name]
	if !given && (optional == nil || !*optional) {
		p.t.Fatalf("there is no Secret %s", name)
	}
	if items == nil {
		for key := range data {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	must(p.t, os.MkdirAll(filepath.Join(dir, "..data"), 0o755))
	for _, i := range items {
		text, given := data[i.Key]
		if !given {
			p.t.Fatalf("the Secret %s has no %s", name, i.Key)
		}
		path := filepath.Join(dir, "..data", i.Path)
		must(p.t, os.WriteFile(path, []byte(text), 0o440))
		must(p.t, os.Symlink(filepath.Join("..data", i.Path), filepath.Join(dir, i.Path)))
	}
}

// reader returns somebody who types in a container: with its variables, and with its
// mounts in the place of the paths that it knows them by.
func (p *runningPod) reader(c corev1.Container) *guide.Reader {
	p.t.Helper()
	r := at(p.t, p.t.TempDir())
	mounts := slices.SortedFunc(slices.Values(c.VolumeMounts), func(a, b corev1.VolumeMount) int {
		return len(a.MountPath) - len(b.MountPath)
	})
	for _, m := range mounts {
		r.Put(m.MountPath, p.volumes[m.Name])
	}
	for i := 0; i < len(p.put); i += 2 {
		r.Put(p.put[i], p.put[i+1])
	}
	r.Put("/usr/bin/sidevault", "sidevault")
	settings := settingsThere(p.t)
	for _, e := range c.Env {
		if strings.HasPrefix(e.Name, "SIDEVAULT_") && !settings[e.Name] {
			p.t.Errorf("there is no setting %s", e.Name)
		}
		r.Export(e.Name, r.Typed(e.Value))
	}
	return r
}

// prepare runs the containers that end before the others begin.
func (p *runningPod) prepare() {
	p.t.Helper()
	for _, c := range p.pod.Spec.InitContainers {
		if c.RestartPolicy != nil {
			continue
		}
		if !slices.Equal(c.Command, []string{"sh", "-euc"}) || len(c.Args) != 1 {
			p.t.Fatalf("%s runs %q", c.Name, c.Command)
		}
		p.reader(c).Follow(p.t, []guide.Block{{Document: c.Name, Text: "sh -eu <<'END'\n" + c.Args[0] + "END\n"}})
	}
}

// serve starts the sidecar, and asks what the probes ask.
func (p *runningPod) serve() *guide.Reader {
	p.t.Helper()
	c := p.container(p.t, "sidevault")
	r := p.reader(c)
	// The image's entry point is the program.
	r.Follow(p.t, []guide.Block{{Document: c.Name, Text: "sidevault " + strings.Join(c.Args, " ") + "\n"}})
	paths := map[string]bool{}
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if probe.Exec != nil {
			line := strings.Join(probe.Exec.Command, " ")
			paths[line] = true
			r.Follow(p.t, []guide.Block{{Document: c.Name, Text: line + "\n", Language: "text", Prints: "ok"}})
			continue
		}
		get := probe.HTTPGet
		paths[get.Path] = true
		if get.Scheme != corev1.URISchemeHTTPS || get.Port != intstr.FromString(c.Ports[0].Name) {
			p.t.Errorf("a probe of %v", get)
		}
		// A kubelet does not look at the certificate.
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		answer, err := client.Get(r.Typed("https://127.0.0.1:8271") + get.Path)
		must(p.t, err)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			p.t.Errorf("%s answers %d", get.Path, answer.StatusCode)
		}
	}
	if len(paths) != 2 {
		p.t.Errorf("readiness and life are asked in the same way: %v", paths)
	}
	return r
}

// serveTo serves over TLS, to somebody who trusts the certificate.
func (p *runningPod) serveTo(key, cert string) *guide.Reader {
	p.t.Helper()
	r := p.serve()
	r.Export("SIDEVAULT_ADDR", r.Typed("https://127.0.0.1:8271"))
	r.Export("SIDEVAULT_TOKEN", key)
	r.Export("SSL_CERT_FILE", cert)
	return r
}

var settingVariableRE = regexp.MustCompile(`\(SIDEVAULT_[A-Z_]+\)`)

// settingsThere are the variables of the program's settings, and those of its clients.
func settingsThere(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{"SIDEVAULT_ADDR": true, "SIDEVAULT_TOKEN_FILE": true}
	for _, m := range settingVariableRE.FindAllString(binary.Run(t, "", nil, "serve", "--help").Stdout, -1) {
		there[strings.Trim(m, "()")] = true
	}
	if len(there) < 30 {
		t.Fatalf("%d settings", len(there))
	}
	return there
}

// podEnvironments are those of the manifests.
const podEnvironments = "development,staging,production:protected"

func TestSidecarPod(t *testing.T) {
	t.Parallel()
	v := binary.On(sidecar.Postgres).Init(t, "--environments", podEnvironments)
	server := testserver.Postgres(t)
	dir := filepath.Dir(v.Dir)
	p := newPod(t, "sidecar.yaml", map[string]map[string]string{
		"sidevault":          {"identity.txt": content(t, v.File("identity.txt")), "vault.pub": content(t, v.File("vault.pub"))},
		"sidevault-postgres": {"pgpass": content(t, filepath.Join(dir, "pgpass")), "ca.pem": "a certificate"},
		"billing-sidevault":  {"key": v.AdminKey},
	})
	c := p.container(t, "sidevault")
	if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways || p.pod.Spec.InitContainers[len(p.pod.Spec.InitContainers)-1].Name != c.Name {
		t.Error("it is no native sidecar, or not the last that starts before the service")
	}
	_, database, _ := strings.Cut(strings.Split(v.URL, "?")[0], server.Address()+"/")
	p.put = []string{
		"sidevault@postgres.storage.svc:5432/sidevault", testserver.PostgresOwner + "@" + server.Address() + "/" + database,
		"sslmode=verify-full&sslrootcert=/etc/sidevault/postgres-ca.pem", "sslmode=disable",
	}
	p.prepare()
	if len(c.Ports) > 0 {
		t.Error("the sidecar has a port that others can name")
	}
	service := p.reader(p.container(t, "billing"))
	service.Export("SIDEVAULT_ADDR", p.serve().Typed("http://127.0.0.1:8271"))
	service.Follow(t, []guide.Block{{Document: "billing", Language: "text", Prints: "Set slack in staging: ...\na token\n",
		Text: "printf 'a token' | sidevault set slack -e staging\nsidevault get slack -e staging\n"}})
}

func TestStatefulSetPod(t *testing.T) {
	t.Parallel()
	v := binary.Init(t, "--environments", podEnvironments)
	cert, key := newCertificate(t)
	secrets := map[string]map[string]string{
		"sidevault-identity": {"identity.txt": content(t, v.File("identity.txt"))},
		"sidevault-seed":     {"vault.db": content(t, v.File("vault.db")), "vault.pub": content(t, v.File("vault.pub"))},
		"sidevault-tls":      {"tls.crt": content(t, cert), "tls.key": content(t, key)},
	}
	p := newPod(t, "statefulset.yaml", secrets)
	// Not on every address of this host.
	p.put = []string{":8271", "127.0.0.1:0"}
	p.prepare()
	client := p.serveTo(v.AdminKey, cert)
	client.Follow(t, []guide.Block{{Document: "client", Text: "printf 'a token' | sidevault set slack -e staging\n"}})
	// The next pod has the same volume, and finds no seed.
	delete(secrets, "sidevault-seed")
	next := newPod(t, "statefulset.yaml", secrets)
	next.put, next.volumes["data"] = p.put, p.volumes["data"]
	client.Leave(t)
	next.prepare()
	next.serveTo(v.AdminKey, cert).Follow(t, []guide.Block{{Document: "client", Language: "text", Prints: "a token", Text: "sidevault get slack -e staging\n"}})
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}
