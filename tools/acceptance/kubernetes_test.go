package acceptance

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
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
