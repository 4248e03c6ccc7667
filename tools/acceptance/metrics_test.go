package acceptance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// families are metrics by name, as Prometheus reads them.
type families map[string]*dto.MetricFamily

func parseMetrics(t *testing.T, body []byte) families {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// scraped is what sidecars show that have done something of everything.
type scraped struct {
	once sync.Once
	body []byte // of the one without TLS
	all  families
}

var everything scraped

// everyMetric returns all metrics that a sidecar can have. They are made once.
func everyMetric(t *testing.T) (families, []byte) {
	t.Helper()
	everything.once.Do(func() {
		everything.body = scrapeBusy(t)
		all := parseMetrics(t, scrapeTLS(t))
		maps.Copy(all, parseMetrics(t, everything.body))
		everything.all = all
	})
	if everything.all == nil {
		t.Fatal("another test could not scrape the metrics")
	}
	return everything.all, everything.body
}

const metricsCanary = "metrics-canary-51c0de"

// scrapeBusy has a sidecar do something of everything, and scrapes it.
func scrapeBusy(t *testing.T) []byte {
	t.Helper()
	other := newSystem(t)
	other.answers(func(c told) int {
		if c.Integration == "broken" {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	catalog := fmt.Sprintf("integrations:\n  - {key: accept, validators: [{plugin: trial, config: {do: accept}}], syncers: [{plugin: carrier, config: {url: %q}}]}\n"+
		"  - {key: broken, syncers: [{plugin: carrier, config: {url: %q}, mode: swallow}]}\n", other.URL, other.URL)
	v := binary.Init(t)
	args := v.Configure(t, catalog, trial(t), sidecar.Program{Name: "carrier", Path: binary.BuildProgram(t, "./programs/syncer")})
	s := v.Start(t, append(args, "--backup-dir", filepath.Join(t.TempDir(), "backups"))...)
	c := s.Admin()
	c.Put(slot("accept", ""), value(metricsCanary)).Wants(http.StatusCreated)
	c.Put(slot("broken", "staging"), value(metricsCanary)).Wants(http.StatusCreated)
	c.Put(slot("salesforce", "development"), value(metricsCanary)).Wants(http.StatusCreated)
	for _, path := range []string{resolve("salesforce", "development"), resolve("salesforce", "preview"), resolve("accept", "staging")} {
		c.Get(path).Wants(http.StatusOK)
	}
	c.Get(resolve("slack", "staging")).Wants(http.StatusNotFound)
	s.Client("svk_" + strings.Repeat("0", 43)).Get("/v1/whoami").Wants(http.StatusUnauthorized)
	c.Get("/v1/" + metricsCanary).Wants(http.StatusNotFound)
	overHTTP(t, s, s.AdminKey, mcpModern).call("list_environments", nil).ok()
	var body []byte
	until(t, "the metrics of the delivery", func() bool {
		body = c.Get("/metrics").Wants(http.StatusOK).Body
		return bytes.Contains(body, []byte(`sidevault_sync_pending{plugin="carrier"} 1`))
	})
	return body
}

// scrapeTLS scrapes a sidecar that serves TLS.
func scrapeTLS(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	trusted := certify(t, cert, key)
	s := binary.Serve(t, "--tls-cert", cert, "--tls-key", key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(strings.Replace(s.URL, "http:", "https:", 1) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// certify writes a certificate for the loopback interface that is good for an hour.
func certify(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		text := pem.EncodeToMemory(block)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if path == cert {
			pool.AppendCertsFromPEM(text)
		}
	}
	return pool
}

// metricNameRE finds what the program calls a metric.
var metricNameRE = regexp.MustCompile(`"(sidevault_[a-z0-9_]+)"`)

// namesInSource returns the names of the metrics that the program's source has.
func namesInSource(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	for _, pattern := range []string{"../../cmd/sidevault/*.go", "../../api/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") || !bytes.Contains(text, []byte("prometheus")) {
				continue
			}
			for _, m := range metricNameRE.FindAllSubmatch(text, -1) {
				found[string(m[1])] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Every metric that the source names is shown by a sidecar that does everything, so
// that the tests below look at all of them.
func TestEveryMetricIsShown(t *testing.T) {
	t.Parallel()
	all, _ := everyMetric(t)
	names := namesInSource(t)
	if len(names) < 30 {
		t.Errorf("the source names only %q", names)
	}
	for _, name := range names {
		if all[name] == nil {
			t.Errorf("%s is in the source and was not scraped", name)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_start_time_seconds"} {
		if all[name] == nil {
			t.Errorf("%s was not scraped", name)
		}
	}
}

// labelNames are all labels that metrics of ours may have. What they hold comes from
// closed lists, or from the configuration.
var labelNames = []string{
	"action", "environment", "from", "goversion", "kind", "method", "operation", "outcome", "plugin", "route", "service", "status", "tool", "version",
}

func TestMetricsAreConventional(t *testing.T) {
	t.Parallel()
	all, body := everyMetric(t)
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for name, family := range all {
		if !strings.HasPrefix(name, "sidevault_") {
			continue
		}
		if !strings.HasSuffix(family.GetHelp(), ".") {
			t.Errorf("%s: the help is no sentence: %q", name, family.GetHelp())
		}
		for _, label := range labelsOf(family) {
			if !slices.Contains(labelNames, label) {
				t.Errorf("%s has the label %s", name, label)
			}
		}
	}
}

// labelsOf returns the names of a family's labels.
func labelsOf(family *dto.MetricFamily) []string {
	found := map[string]bool{}
	for _, metric := range family.GetMetric() {
		for _, pair := range metric.GetLabel() {
			found[pair.GetName()] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// No metric names a credential, an integration, a caller or what a client made up.
func TestMetricsNameNobody(t *testing.T) {
	t.Parallel()
	_, body := everyMetric(t)
	for _, word := range []string{metricsCanary, "salesforce", "broken", "slack", "svk_", "cred-", "127.0.0.1"} {
		if bytes.Contains(body, []byte(word)) {
			t.Errorf("%q is in the metrics", word)
		}
	}
}

// wantsValues fails the test unless the metrics have these lines.
func wantsValues(t *testing.T, body []byte, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !bytes.Contains(body, []byte("\n"+line+"\n")) {
			t.Errorf("no line %s", line)
		}
	}
}

func TestMetricsCount(t *testing.T) {
	t.Parallel()
	all, body := everyMetric(t)
	wantsValues(t, body,
		`sidevault_resolves_total{from="own"} 1`,
		`sidevault_resolves_total{from="parent"} 1`,
		`sidevault_resolves_total{from="shared"} 1`,
		`sidevault_operations_total{action="read_integration_credentials",outcome="success"} 3`,
		`sidevault_operations_total{action="read_integration_credentials",outcome="credential_not_found"} 1`,
		`sidevault_operations_total{action="set_integration_credentials",outcome="success"} 3`,
		`sidevault_authentication_failures_total 1`,
		`sidevault_http_request_duration_seconds_count{method="GET",route="/v1/credentials/:integration",status="200"} 3`,
		`sidevault_http_request_duration_seconds_count{method="GET",route="none",status="404"} 1`,
		`sidevault_plugin_calls_total{outcome="ok",plugin="trial",service="validator"} 1`,
		`sidevault_plugin_restarts_total{plugin="trial"} 0`,
		`sidevault_plugin_quarantined{plugin="trial"} 0`,
		`sidevault_sync_pending{plugin="carrier"} 1`,
		`sidevault_environment_key_held{environment="production"} 1`,
		`sidevault_environment_key_held{environment="@shared"} 1`,
		`sidevault_storage_errors_total{kind="unavailable"} 0`,
		`sidevault_audit_flush_failures_total 0`,
	)
	value := func(name string) float64 {
		m := all[name].GetMetric()[0]
		return m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	now := float64(time.Now().Unix())
	for name, want := range map[string][2]float64{
		"sidevault_tls_certificate_not_after_timestamp_seconds": {now + 3000, now + 3601},
		"sidevault_environment_key_created_timestamp_seconds":   {now - 300, now + 1},
		"sidevault_sync_oldest_pending_timestamp_seconds":       {now - 300, now + 1},
		"sidevault_decrypted_cache_bytes":                       {1, 1 << 20},
		"sidevault_cache_bytes":                                 {1, 1 << 24},
		"sidevault_cache_hits_total":                            {1, 1000},
		"sidevault_decryptions_total":                           {3, 10},
		"sidevault_audit_lag_seconds":                           {0, 20},
	} {
		if got := value(name); got < want[0] || got > want[1] {
			t.Errorf("%s is %v, want %v to %v", name, got, want[0], want[1])
		}
	}
	if commits := all["sidevault_storage_operation_duration_seconds"]; len(commits.GetMetric()) != 5 {
		t.Errorf("%d operations of the storage are timed, want 5", len(commits.GetMetric()))
	}
}
