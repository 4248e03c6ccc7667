package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/backends/open"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/catalog"
	"github.com/sidevault/sidevault/vault/secret"
)

// crowded is how many credentials there are throughout.
func crowded(v *sidecar.Vault) int {
	if v.URL == "" {
		return 10_000
	}
	return 1_000
}

// fill sets credentials in a vault that no sidecar serves.
func fill(t *testing.T, v *sidecar.Vault, n int) map[string]bool {
	t.Helper()
	opened, admin, closeAll := openOffline(t, v)
	defer closeAll()
	integrations := []string{"github", "jira", "salesforce", "sftp", "slack"}
	environments := []string{"development", "staging"}
	var mu sync.Mutex
	ids := map[string]bool{}
	var wg sync.WaitGroup
	const writers = 64
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n; i += writers {
				environment := &environments[i/len(integrations)%len(environments)]
				slot, err := opened.Slot(integrations[i%len(integrations)], environment, fmt.Sprint("lasting ", i))
				if err != nil {
					t.Error(err)
					return
				}
				set, err := opened.Set(t.Context(), admin, slot, vault.SetInput{Fields: map[string]secret.Value{vault.ValueField: secret.New("x")}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids[string(set.Credential.ID)] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(ids) != n {
		t.Fatalf("%d credentials were set", len(ids))
	}
	return ids
}

// openOffline opens a vault in this process.
func openOffline(t *testing.T, v *sidecar.Vault) (*vault.Vault, vault.Caller, func()) {
	t.Helper()
	identity, err := os.Open(v.File("identity.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer identity.Close()
	roots, err := age.ParseIdentities(identity)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := envs.New([]envs.Environment{
		{Name: "development"}, {Name: "preview", Parent: "development"}, {Name: "staging"}, {Name: "production", Protected: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	storage, err := open.Open(t.Context(), v.Storage(), open.Options{})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := vault.Open(t.Context(), vault.Config{
		Backend: storage, Envs: tree, Catalog: catalog.Builtin(), Identities: roots, Trusted: v.Recipient(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := opened.Authenticate(t.Context(), secret.New(v.AdminKey))
	if err != nil {
		t.Fatal(err)
	}
	return opened, admin, func() {
		if err := opened.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := storage.Close(); err != nil {
			t.Error(err)
		}
	}
}

// churn creates and deletes credentials all over the list until stop is closed,
// each worker others.
func churn(t *testing.T, c *sidecar.Client, worker, beyond int, stop <-chan struct{}) (done int) {
	for i := worker << 20; ; i++ {
		select {
		case <-stop:
			return done
		default:
		}
		integration := []string{"asana", "jira", "slack", "zoominfo"}[i%4]
		// Names before, between and after those that last.
		path := slot(integration, "staging") + fmt.Sprintf("&name=%s%%20%d", []string{"a", "lasting", "z"}[i%3], beyond+i)
		if a, err := c.Try(http.MethodPut, path, value("x")); err != nil || a.Status != http.StatusCreated {
			t.Errorf("a set while listing: %v", err)
			return done
		}
		if a, err := c.Try(http.MethodDelete, path, nil); err != nil || a.Status != http.StatusOK {
			t.Errorf("a deletion while listing: %v", err)
			return done
		}
		done++
	}
}

func TestPages(t *testing.T) { onEach(t, testPages) }

func testPages(t *testing.T, on *sidecar.Binary) {
	if testing.Short() {
		t.Skip("makes 10,000 credentials")
	}
	v := on.Init(t)
	lasting := fill(t, v, crowded(v))
	c := v.Start(t).Admin()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	done := make([]int, 4)
	for i := range done {
		wg.Go(func() { done[i] = churn(t, c, i+1, len(lasting), stop) })
	}
	for _, limit := range []int{500, 101} {
		checkPages(t, c, limit, lasting)
	}
	close(stop)
	wg.Wait()
	for _, n := range done {
		if n == 0 {
			t.Error("nothing was created and deleted meanwhile")
		}
	}
	c.Get("/v1/integrations/credentials?limit=501").Fails(http.StatusBadRequest, "INVALID_REQUEST")
	c.Get("/v1/integrations/credentials?cursor=x").Fails(http.StatusBadRequest, "INVALID_REQUEST")
}

// checkPages reads every page, and misses and doubles nothing that lasts.
func checkPages(t *testing.T, c *sidecar.Client, limit int, lasting map[string]bool) {
	t.Helper()
	seen := map[string]bool{}
	found := 0
	path := fmt.Sprint("/v1/integrations/credentials?limit=", limit)
	for cursor, pages := "", 0; ; pages++ {
		var page wire.Page[wire.Credential]
		c.Get(path + cursor).Wants(http.StatusOK).Into(&page)
		if len(page.Data) > limit || pages > 3*len(lasting)/limit {
			t.Fatalf("page %d has %d credentials", pages, len(page.Data))
		}
		for _, cred := range page.Data {
			if seen[cred.ID] {
				t.Fatalf("%s is listed twice", cred.ID)
			}
			seen[cred.ID] = true
			if lasting[cred.ID] {
				found++
			}
		}
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	if found != len(lasting) {
		t.Errorf("in pages of %d: %d of %d credentials are listed", limit, found, len(lasting))
	}
}
