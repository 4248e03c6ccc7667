package acceptance

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/sidevault/sidevault/backends/testserver"
	"github.com/sidevault/sidevault/tools/acceptance/guide"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// manifests is where they stand, seen from this package.
const manifests = root + "/deploy/kubernetes/"

// manifest is what a file has, each object once.
type manifest struct {
	accounts map[string]bool
	services []corev1.Service
	policies []networkingv1.NetworkPolicy
	labels   map[string]string // that the workload selects its pods by
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
}

// readManifest decodes a file into the types of the API, where a field that there is not,
// or a value of another type, is an error.
func readManifest(t *testing.T, name string) (m manifest) {
	t.Helper()
	data, err := os.ReadFile(manifests + name)
	must(t, err)
	m.accounts = map[string]bool{}
	decoder := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for {
		document, err := decoder.Read()
		if errors.Is(err, io.EOF) {
			return m
		}
		must(t, err)
		must(t, m.add(t, document))
	}
}

func (m *manifest) add(t *testing.T, document []byte) error {
	var kind struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 ServiceAccount":
		var o corev1.ServiceAccount
		err := yaml.UnmarshalStrict(document, &o)
		m.accounts[o.Name] = o.AutomountServiceAccountToken != nil && !*o.AutomountServiceAccountToken
		return err
	case "v1 Service":
		m.services = append(m.services, corev1.Service{})
		return yaml.UnmarshalStrict(document, &m.services[len(m.services)-1])
	case "networking.k8s.io/v1 NetworkPolicy":
		m.policies = append(m.policies, networkingv1.NetworkPolicy{})
		return yaml.UnmarshalStrict(document, &m.policies[len(m.policies)-1])
	case "apps/v1 Deployment":
		var o appsv1.Deployment
		err := yaml.UnmarshalStrict(document, &o)
		m.pod, m.labels = o.Spec.Template, o.Spec.Selector.MatchLabels
		return err
	case "apps/v1 StatefulSet":
		var o appsv1.StatefulSet
		err := yaml.UnmarshalStrict(document, &o)
		m.pod, m.labels, m.claims = o.Spec.Template, o.Spec.Selector.MatchLabels, o.Spec.VolumeClaimTemplates
		if *o.Spec.Replicas != 1 {
			t.Errorf("%d processes for one file", *o.Spec.Replicas)
		}
		return err
	}
	t.Errorf("no test knows %s", kind)
	return nil
}

func (m manifest) containers() []corev1.Container {
	return slices.Concat(m.pod.Spec.InitContainers, m.pod.Spec.Containers)
}

func (m manifest) container(t *testing.T, name string) corev1.Container {
	t.Helper()
	for _, c := range m.containers() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no container %s", name)
	return corev1.Container{}
}

func TestManifestsAreHardened(t *testing.T) {
	for _, name := range []string{"sidecar.yaml", "statefulset.yaml"} {
		t.Run(name, func(t *testing.T) {
			m := readManifest(t, name)
			spec := m.pod.Spec
			pod := spec.SecurityContext
			if !*pod.RunAsNonRoot || *pod.RunAsUser != 65532 || *pod.RunAsGroup != 65532 || *pod.FSGroup != 65532 || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("the pod's security context is %v", pod)
			}
			if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken || !m.accounts[spec.ServiceAccountName] || *spec.EnableServiceLinks {
				t.Error("the pod gets a token, or variables of services")
			}
			if spec.HostNetwork || spec.HostPID || spec.HostIPC || spec.ShareProcessNamespace != nil {
				t.Error("the pod shares what is the host's")
			}
			for _, c := range m.containers() {
				hardened(t, c)
			}
			m.wantsVolumes(t)
			m.wantsNetwork(t)
		})
	}
}

func hardened(t *testing.T, c corev1.Container) {
	t.Helper()
	s := c.SecurityContext
	if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || s.Capabilities.Add != nil {
		t.Errorf("%s: the security context is %v", c.Name, s)
	}
	if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
		t.Errorf("%s has no bounds", c.Name)
	}
	if name, tag, _ := strings.Cut(c.Image, ":"); tag == "" || c.Name == "sidevault" && name != "ghcr.io/sidevault/sidevault" {
		t.Errorf("%s is of the image %s", c.Name, c.Image)
	}
	for _, e := range c.Env {
		if e.Value == "" || e.ValueFrom != nil {
			t.Errorf("%s: %s has no value of its own: secrets come as files", c.Name, e.Name)
		}
	}
}

// wantsVolumes fails the test unless every mount is of a volume, every volume is mounted,
// secrets are files for the group to read alone, and what is written is in memory or
// claimed.
func (m manifest) wantsVolumes(t *testing.T) {
	t.Helper()
	mounted := map[string]bool{}
	for _, c := range m.containers() {
		for _, v := range c.VolumeMounts {
			mounted[v.Name] = true
		}
	}
	for _, c := range m.claims {
		if !mounted[c.Name] {
			t.Errorf("the claim %s is not mounted", c.Name)
		}
		delete(mounted, c.Name)
	}
	for _, v := range m.pod.Spec.Volumes {
		if !mounted[v.Name] {
			t.Errorf("the volume %s is not mounted", v.Name)
		}
		delete(mounted, v.Name)
		switch {
		case v.Secret != nil && *v.Secret.DefaultMode == 0o440:
		case v.Projected != nil && *v.Projected.DefaultMode == 0o440:
		case v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory && !v.EmptyDir.SizeLimit.IsZero():
		default:
			t.Errorf("the volume %s is neither secret nor in memory", v.Name)
		}
	}
	for name := range mounted {
		t.Errorf("there is no volume %s", name)
	}
}

// wantsNetwork fails the test unless there is one policy for the pods, and ports have the
// names that services and policies know them by.
func (m manifest) wantsNetwork(t *testing.T) {
	t.Helper()
	ports := map[string]int32{}
	for _, c := range m.containers() {
		for _, p := range c.Ports {
			ports[p.Name] = p.ContainerPort
		}
	}
	if len(m.policies) != 1 || len(m.policies[0].Spec.PolicyTypes) != 2 || !sameLabels(m.policies[0].Spec.PodSelector.MatchLabels, m.pod.Labels) || !sameLabels(m.labels, m.pod.Labels) {
		t.Fatalf("%d policies, or others than of these pods", len(m.policies))
	}
	for _, rule := range m.policies[0].Spec.Ingress {
		for _, p := range rule.Ports {
			if ports[p.Port.StrVal] == 0 {
				t.Errorf("a policy opens the port %v, which nobody has", p.Port)
			}
		}
	}
	for _, s := range m.services {
		if !sameLabels(s.Spec.Selector, m.pod.Labels) {
			t.Errorf("the service %s selects other pods", s.Name)
		}
		for _, p := range s.Spec.Ports {
			if p.TargetPort.Type != intstr.String || ports[p.TargetPort.StrVal] != p.Port {
				t.Errorf("the service's port %v is not the container's", p)
			}
		}
	}
}

func sameLabels(want, got map[string]string) bool {
	for name, value := range want {
		if got[name] != value {
			return false
		}
	}
	return len(want) > 0
}

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

var variableRE = regexp.MustCompile(`\(SIDEVAULT_[A-Z_]+\)`)

// settingsThere are the variables of the program's settings, and those of its clients.
func settingsThere(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{"SIDEVAULT_ADDR": true, "SIDEVAULT_TOKEN_FILE": true}
	for _, m := range variableRE.FindAllString(binary.Run(t, "", nil, "serve", "--help").Stdout, -1) {
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
