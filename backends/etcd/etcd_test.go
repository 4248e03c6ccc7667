package etcd

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/backends/backendtest"
	"github.com/sidevault/sidevault/backends/testserver"
)

func TestMain(m *testing.M) {
	backendtest.Child(func(address string) (backends.Backend, error) { return Open(context.Background(), address, nil) })
	os.Exit(testserver.Run(m))
}

func TestContract(t *testing.T) { testContract(t, testserver.SharedEtcd(t)) }

var torture = flag.Bool("torture", false, "hold a cluster to the contract, too")

// What a cluster adds to the contract of a node is in the tests of this package that
// stop nodes; the whole contract on three takes minutes.
func TestContractOnThreeNodes(t *testing.T) {
	if !*torture {
		t.Skip("-torture runs it, as in make torture")
	}
	testContract(t, testserver.Etcd(t, 3))
}

// testContract runs the suite through proxies that can break the connections.
func testContract(t *testing.T, c *testserver.Cluster) {
	url, breakAll := proxied(t, c)
	backendtest.Run(t, func(t *testing.T) backendtest.Open { return opener(t, url()) }, &backendtest.Options{
		Shared:     true,
		Disconnect: breakAll,
		Address: func(t *testing.T) (backendtest.Open, string) {
			direct := c.URL()
			return opener(t, direct), direct
		},
	})
}

// proxied returns what makes URLs of the cluster by way of a proxy to each node, and
// what breaks their connections.
func proxied(t *testing.T, c *testserver.Cluster) (url func() string, breakAll func()) {
	var proxies []*testserver.Proxy
	var hosts []string
	for _, host := range c.Hosts() {
		p := testserver.NewProxy(t, host)
		proxies, hosts = append(proxies, p), append(hosts, p.Addr())
	}
	url = func() string {
		return strings.Replace(c.URL(), strings.Join(c.Hosts(), ","), strings.Join(hosts, ","), 1)
	}
	return url, func() {
		for _, p := range proxies {
			p.Break()
		}
	}
}

func opener(t *testing.T, url string) backendtest.Open {
	return func() (backends.Backend, error) { return Open(t.Context(), url, nil) }
}

func open(t testing.TB, url string) *Backend {
	t.Helper()
	b, err := Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func put(key string, at backends.Revision, value string) backends.Batch {
	return backends.Batch{Changes: []backends.Change{backends.Put(key, at, []byte(value))}}
}
