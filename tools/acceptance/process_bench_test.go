package acceptance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
	"github.com/sidevault/sidevault/vault/seal"
	"github.com/sidevault/sidevault/vault/secret"
)

// BenchmarkProcess measures a sidecar as it is released: how long it takes from its
// start to its first answer, and what it holds in memory when idle then, and after
// its first reads. Anonymous memory is its own; the rest is the vault's file and
// the program's, which the system can take back.
func BenchmarkProcess(b *testing.B) {
	program := release(b)
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			v := binary.Init(b)
			stock(b, v, n)
			var started time.Duration
			var idle, used footprint
			for b.Loop() {
				p := startRelease(b, program, v)
				started += p.took
				idle = memoryOf(b, p.cmd.Process.Pid)
				p.read(b, v, 200)
				used = memoryOf(b, p.cmd.Process.Pid)
				p.stop(b)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(started.Microseconds())/1000/float64(b.N), "ms-to-answer")
			b.ReportMetric(idle.resident, "MiB-idle")
			b.ReportMetric(idle.anonymous, "MiB-idle-anon")
			b.ReportMetric(used.resident, "MiB-after-reads")
			b.ReportMetric(used.anonymous, "MiB-after-reads-anon")
		})
	}
}

// release builds the program without the race detector.
func release(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "sidevault")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/sidevault")
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return path
}

// stock sets n credentials of 200 bytes without a sidecar, many at a time so that
// they share the disk's work.
func stock(b *testing.B, v *sidecar.Vault, n int) {
	b.Helper()
	ctx := context.Background()
	opened, closeVault := unserved(b, v)
	defer closeVault()
	admin, err := opened.Authenticate(ctx, secret.New(v.AdminKey))
	if err != nil {
		b.Fatal(err)
	}
	input := vault.SetInput{Fields: seal.Fields{"value": secret.New(strings.Repeat("x", 200))}}
	names := make(chan int)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := range names {
				slot := vault.Slot{Integration: "salesforce", Scope: "production", Name: numbered(i)}
				if _, err := opened.Set(ctx, admin, slot, input); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range n {
		names <- i
	}
	close(names)
	wg.Wait()
}

func numbered(i int) string { return fmt.Sprintf("n%06d", i) }

// unserved opens a vault that is not served.
func unserved(b *testing.B, v *sidecar.Vault) (*vault.Vault, func()) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	identity, err := os.Open(v.File("identity.txt"))
	must(err)
	defer identity.Close()
	roots, err := age.ParseIdentities(identity)
	must(err)
	anchor, err := os.ReadFile(v.File("vault.pub"))
	must(err)
	tree, err := envs.New([]envs.Environment{{Name: "production"}})
	must(err)
	backend, err := open.Open(context.Background(), v.Storage(), open.Options{})
	must(err)
	opened, err := vault.Open(context.Background(), vault.Config{
		Backend: backend, Envs: tree, Catalog: catalog.Builtin(), Identities: roots,
		Trusted: regexp.MustCompile(`age1\S+`).FindString(string(anchor)),
	})
	must(err)
	return opened, func() {
		must(opened.Close(context.Background()))
		must(backend.Close())
	}
}

// released is a running sidecar of the released program.
type released struct {
	cmd  *exec.Cmd
	url  string
	took time.Duration // from its start to its first answer
}

func startRelease(b *testing.B, program string, v *sidecar.Vault) released {
	b.Helper()
	address := freeAddress(b)
	cmd := exec.Command(program, "serve", "--data-dir", v.Dir, "--listen", address, "--environments", sidecar.Environments)
	cmd.Env = []string{"HOME=" + b.TempDir()}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for {
		resp, err := http.Get("http://" + address + "/readyz")
		if err == nil {
			resp.Body.Close()
			return released{cmd, "http://" + address, time.Since(start)}
		}
		if time.Since(start) > 30*time.Second {
			b.Fatal("the sidecar does not answer")
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// read resolves n credentials.
func (p released) read(b *testing.B, v *sidecar.Vault, n int) {
	b.Helper()
	c := sidecar.NewClient(b, p.url, v.AdminKey, http.DefaultTransport)
	for i := range n {
		c.Get(resolve("salesforce", "production") + "&name=" + numbered(i%10)).Wants(http.StatusOK)
	}
}

func (p released) stop(b *testing.B) {
	b.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		b.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

// footprint is what a process has in memory, in MiB.
type footprint struct{ resident, anonymous float64 }

func memoryOf(b *testing.B, pid int) footprint {
	b.Helper()
	time.Sleep(2 * time.Second) // for it to become idle
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skipf("memory cannot be measured here: %v", err)
	}
	mebibytes := func(name string) float64 {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
		n, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			b.Fatal(err)
		}
		return n / 1024
	}
	return footprint{mebibytes("VmRSS"), mebibytes("RssAnon")}
}
