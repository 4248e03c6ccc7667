package acceptance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/api/rest"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/tools/acceptance/contract"
	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// The kinds of caller, in the order of the columns of access.
const (
	nobody = iota
	revoked
	expired
	reader         // user scope, everything
	stagingReader  // user scope, staging alone
	slackReader    // user scope, slack alone
	stranger       // admin of another org
	lesserAdmin    // admin without production, which is protected
	admin          // admin of everything
	kindsOfCallers // how many there are
)

var callerNames = [kindsOfCallers]string{
	"nobody", "revoked", "expired", "reader", "reader of staging", "reader of slack", "stranger", "lesser admin", "admin",
}

// access is what each kind of caller gets for each route, when it asks for
// salesforce in production, which is protected. Every route stands here.
var access = map[string][kindsOfCallers]int{
	//                                                      -    rev. exp. read stag slac stra less admin
	"GET /v1/integrations":                                 {401, 401, 401, 200, 200, 200, 200, 200, 200},
	"POST /v1/integrations":                                {401, 401, 401, 403, 403, 403, 201, 201, 201},
	"GET /v1/integrations/categories":                      {401, 401, 401, 200, 200, 200, 200, 200, 200},
	"GET /v1/integrations/{integration}":                   {401, 401, 401, 200, 200, 403, 200, 200, 200},
	"PATCH /v1/integrations/{integration}":                 {401, 401, 401, 403, 403, 403, 200, 200, 200},
	"GET /v1/integrations/{integration}/credentials":       {401, 401, 401, 200, 403, 403, 200, 403, 200},
	"PUT /v1/integrations/{integration}/credentials":       {401, 401, 401, 403, 403, 403, 201, 403, 200},
	"POST /v1/integrations/{integration}/credentials":      {401, 401, 401, 403, 403, 403, 201, 403, 200},
	"DELETE /v1/integrations/{integration}/credentials":    {401, 401, 401, 403, 403, 403, 404, 403, 200},
	"POST /v1/integrations/{integration}/credentials/test": {401, 401, 401, 403, 403, 403, 404, 403, 200},
	"GET /v1/integrations/credentials":                     {401, 401, 401, 200, 200, 200, 200, 200, 200},
	"POST /v1/integrations/credentials":                    {401, 401, 401, 403, 403, 403, 201, 403, 201},
	"GET /v1/integrations/credentials/{id}":                {401, 401, 401, 200, 403, 403, 404, 403, 200},
	"DELETE /v1/integrations/credentials/{id}":             {401, 401, 401, 403, 403, 403, 404, 403, 204},
	"POST /v1/credentials":                                 {401, 401, 401, 403, 403, 403, 201, 403, 201},
	"GET /v1/credentials/{integration}":                    {401, 401, 401, 200, 403, 403, 404, 403, 200},
	"GET /v1/credentials/{integration}/details":            {401, 401, 401, 200, 403, 403, 404, 403, 200},
	"PATCH /v1/credentials/{integration}/{id}":             {401, 401, 401, 403, 403, 403, 404, 403, 200},
	"DELETE /v1/credentials/{integration}/{id}":            {401, 401, 401, 403, 403, 403, 404, 403, 200},
	"GET /v1/credentials/{integration}/{id}/versions":      {401, 401, 401, 200, 403, 403, 404, 403, 200},
	"POST /v1/credentials/{integration}/{id}/rollback":     {401, 401, 401, 403, 403, 403, 404, 403, 200},
	"GET /v1/credentials/{integration}/{id}/usage":         {401, 401, 401, 403, 403, 403, 404, 403, 200},
	"GET /v1/watch":        {401, 401, 401, 200, 200, 200, 200, 200, 200},
	"GET /v1/environments": {401, 401, 401, 200, 200, 200, 200, 200, 200},
	"POST /v1/environments/{environment}/rotation": {401, 401, 401, 403, 403, 403, 202, 403, 202},
	"GET /v1/environments/{environment}/rotation":  {401, 401, 401, 403, 403, 403, 200, 403, 200},
	"GET /v1/keys":         {401, 401, 401, 403, 403, 403, 200, 200, 200},
	"POST /v1/keys":        {401, 401, 401, 403, 403, 403, 201, 403, 201},
	"DELETE /v1/keys/{id}": {401, 401, 401, 403, 403, 403, 404, 404, 200},
	"GET /v1/plugins":      {401, 401, 401, 403, 403, 403, 200, 200, 200},
	"GET /v1/sync":         {401, 401, 401, 403, 403, 403, 200, 403, 200},
	"POST /v1/sync/retry":  {401, 401, 401, 403, 403, 403, 200, 403, 200},
	"GET /v1/audit":        {401, 401, 401, 403, 403, 403, 200, 200, 200},
	"GET /v1/audit/head":   {401, 401, 401, 403, 403, 403, 200, 200, 200},
	"GET /v1/backup":       {401, 401, 401, 403, 403, 403, 200, 403, 200},
	"GET /v1/whoami":       {401, 401, 401, 200, 200, 200, 200, 200, 200},
	"POST /mcp":            {401, 401, 401, 200, 200, 200, 200, 200, 200},
	// Nobody names a session, and each has its own: see TestMCPSessionIsTheCallersOwn.
	"GET /mcp":          {401, 401, 401, 400, 400, 400, 400, 400, 400},
	"DELETE /mcp":       {401, 401, 401, 400, 400, 400, 400, 400, 400},
	"GET /healthz":      {200, 200, 200, 200, 200, 200, 200, 200, 200},
	"GET /readyz":       {200, 200, 200, 200, 200, 200, 200, 200, 200},
	"GET /metrics":      {200, 200, 200, 200, 200, 200, 200, 200, 200},
	"GET /openapi.yaml": {200, 200, 200, 200, 200, 200, 200, 200, 200},
}

// company is a sidecar with a key of each kind of caller.
type company struct {
	t       *testing.T
	url     string
	sidecar *sidecar.Sidecar
	admin   *sidecar.Client
	keys    [kindsOfCallers]string
	cells   int
}

func newCompany(t *testing.T, on *sidecar.Binary) *company {
	t.Helper()
	v := on.Init(t)
	made := on.Run(t, "", nil, append([]string{"key", "create"}, v.Args("--org", "other", "--name", "stranger", "--scope", "admin", "-e", "*", "-e", "production")...)...)
	if made.Code != 0 {
		t.Fatal(made.Stderr)
	}
	s := v.Start(t)
	c := &company{t: t, url: s.URL, sidecar: s, admin: s.Admin()}
	c.keys[admin], c.keys[stranger] = v.AdminKey, strings.TrimSpace(made.Stdout)
	all := []string{"*", "production"}
	c.keys[reader] = newKey(c.admin, "user", all, []string{"*"})
	c.keys[stagingReader] = newKey(c.admin, "user", []string{"staging"}, []string{"*"})
	c.keys[slackReader] = newKey(c.admin, "user", all, []string{"slack"})
	c.keys[lesserAdmin] = newKey(c.admin, "admin", []string{"*"}, []string{"*"})
	grant := map[string]any{"name": "gone", "scope": "admin", "environments": all, "integrations": []string{"*"}}
	gone := createKey(c.admin, grant)
	c.keys[revoked] = gone.Key
	c.admin.Delete("/v1/keys/" + gone.ID).Wants(http.StatusOK)
	expiry := time.Now().Add(time.Second)
	grant["expiresAt"] = expiry.Format(time.RFC3339Nano)
	c.keys[expired] = createKey(c.admin, grant).Key
	time.Sleep(time.Until(expiry))
	return c
}

// as returns a client of that kind of caller. One whose key fails is at a loopback
// address of its own, where the host has more than one: failures are limited for
// each address.
func (c *company) as(caller int) *sidecar.Client {
	if caller != revoked && caller != expired {
		return c.admin.As(c.keys[caller])
	}
	c.cells++
	from := &net.TCPAddr{IP: net.IPv4(127, 1, byte(c.cells/200), byte(1+c.cells%200))}
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if conn, err := (&net.Dialer{LocalAddr: from}).DialContext(ctx, network, address); err == nil {
			return conn, nil
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	return sidecar.NewClient(c.t, c.url, c.keys[caller], contract.NewRecorder(document, transport))
}

// cell is a request that would succeed for the admin, about a credential of its
// own.
type cell struct {
	path string
	body any
}

// prepare makes what the route is about, and returns the request.
func (c *company) prepare(route string) cell {
	c.t.Helper()
	c.cells++
	name := fmt.Sprint("cell-", c.cells)
	method, path, _ := strings.Cut(route, " ")
	id := someID
	if strings.Contains(path, "{id}") || strings.HasSuffix(path, "/{integration}/credentials") || strings.HasSuffix(path, "/test") || method == http.MethodGet {
		made := c.admin.Put("/v1/integrations/salesforce/credentials?environment=production&name="+name, value("x")).Wants(http.StatusCreated)
		id = sidecar.Data[wire.SetResult](made).ID
	}
	if strings.Contains(path, "/keys/") {
		grant := map[string]any{"name": name, "scope": "user", "environments": []string{"production"}, "integrations": []string{"*"}}
		id = createKey(c.admin, grant).ID
	}
	out := cell{path: strings.NewReplacer("{integration}", "salesforce", "{environment}", "production", "{id}", id).Replace(path), body: c.body(route, name)}
	switch {
	case strings.HasSuffix(path, "/{integration}/credentials"), strings.HasSuffix(path, "/test"),
		strings.HasSuffix(path, "credentials/{integration}"), strings.HasSuffix(path, "/details"), path == "/v1/sync":
		out.path += "?environment=production&name=" + name
	}
	return out
}

func (c *company) body(route, name string) any {
	switch method, path, _ := strings.Cut(route, " "); {
	case route == "POST /mcp":
		return mcpInitialize
	case route == "POST /v1/integrations":
		return map[string]any{"id": name}
	case route == "POST /v1/keys":
		return map[string]any{"name": name, "scope": "user", "environments": []string{"production"}, "integrations": []string{"*"}}
	case route == "PATCH /v1/integrations/{integration}":
		return map[string]any{"enabled": true}
	case strings.HasSuffix(path, "/sync/retry"):
		return map[string]any{"integrationId": "salesforce", "environment": "production"}
	case method == http.MethodPatch:
		return map[string]any{"status": "inactive"}
	case strings.HasSuffix(path, "/rotation"):
		return nil
	case strings.HasSuffix(path, "/rollback"):
		return map[string]any{"version": 1}
	case strings.HasSuffix(path, "/{integration}/credentials") && (method == http.MethodPut || method == http.MethodPost):
		return value("x")
	case method == http.MethodPost && !strings.HasSuffix(path, "/test"):
		return map[string]any{"integrationId": "salesforce", "environment": "production", "name": name, "value": "x"}
	}
	return nil
}

func TestAccess(t *testing.T) { onEach(t, testAccess) }

func testAccess(t *testing.T, on *sidecar.Binary) {
	routes := rest.Routes()
	for route := range access {
		if !slices.Contains(routes, route) {
			t.Errorf("%s is no route", route)
		}
	}
	c := newCompany(t, on)
	for _, route := range routes {
		statuses, ok := access[route]
		if !ok {
			t.Errorf("%s is missing: say who may use it", route)
			continue
		}
		for caller, status := range statuses {
			c.check(route, caller, status)
		}
	}
}

func (c *company) check(route string, caller, status int) {
	method, _, _ := strings.Cut(route, " ")
	cell := c.prepare(route)
	if strings.HasSuffix(route, "/watch") && status == http.StatusOK {
		c.as(caller).Watch("").Close()
		return
	}
	a := c.as(caller).Do(method, cell.path, cell.body)
	for a.Status == http.StatusTooManyRequests {
		time.Sleep(300 * time.Millisecond)
		a = c.as(caller).Do(method, cell.path, cell.body)
	}
	if a.Status != status {
		c.t.Errorf("%s of %s: status %d, want %d", route, callerNames[caller], a.Status, status)
		return
	}
	var code []string
	switch status {
	case http.StatusUnauthorized:
		code = []string{"UNAUTHORIZED"}
	case http.StatusForbidden:
		code = []string{"FORBIDDEN", "FORBIDDEN_ADMIN_SCOPE"}
	case http.StatusNotFound:
		code = []string{"CREDENTIAL_NOT_FOUND", "KEY_NOT_FOUND"}
	default:
		return
	}
	var f wire.Failure
	a.Into(&f)
	if !slices.Contains(code, f.Error.Code) {
		c.t.Errorf("%s of %s: code %s, want %v", route, callerNames[caller], f.Error.Code, code)
	}
}

// TestUsersGetAdminScopeErrors holds every route that refuses a user of
// everything to one reason: that the user is no admin.
func TestUsersGetAdminScopeErrors(t *testing.T) { onEach(t, testUsersGetAdminScopeErrors) }

func testUsersGetAdminScopeErrors(t *testing.T, on *sidecar.Binary) {
	c := newCompany(t, on)
	for _, route := range rest.Routes() {
		if access[route][reader] != http.StatusForbidden {
			continue
		}
		method, _, _ := strings.Cut(route, " ")
		cell := c.prepare(route)
		for _, caller := range []int{reader, stagingReader, slackReader} {
			c.as(caller).Do(method, cell.path, cell.body).Fails(http.StatusForbidden, "FORBIDDEN_ADMIN_SCOPE")
		}
	}
}

// seen is what a caller's lists show, in words.
type seen struct {
	Integrations, Categories, ConfiguredIn, Credentials, Environments, Keys, Audit int
}

func (c *company) sees(caller int) (s seen, places []string) {
	c.t.Helper()
	client := c.as(caller)
	entries := sidecar.Data[[]wire.Integration](client.Get("/v1/integrations").Wants(http.StatusOK))
	s.Integrations = len(entries)
	for _, e := range entries {
		s.ConfiguredIn += len(e.ConfiguredIn)
	}
	for _, category := range sidecar.Data[[]wire.Category](client.Get("/v1/integrations/categories").Wants(http.StatusOK)) {
		s.Categories += len(category.Integrations)
	}
	for _, cred := range list(client, "?limit=500") {
		places = append(places, cred.IntegrationID+" "+scope(cred.Environment))
	}
	s.Credentials = len(places)
	s.Environments = len(sidecar.Data[[]wire.Environment](client.Get("/v1/environments").Wants(http.StatusOK)))
	if access["GET /v1/keys"][caller] == http.StatusOK {
		s.Keys = len(sidecar.Data[[]wire.Key](client.Get("/v1/keys").Wants(http.StatusOK)))
		s.Audit = len(auditOf(client, "set_integration_credentials"))
	}
	slices.Sort(places)
	return s, places
}

func TestListsShowTheGrantAlone(t *testing.T) { onEach(t, testListsShowTheGrantAlone) }

func testListsShowTheGrantAlone(t *testing.T, on *sidecar.Binary) {
	c := newCompany(t, on)
	for _, integration := range []string{"salesforce", "slack"} {
		for _, environment := range []string{"", "development", "staging", "production"} {
			c.admin.Put(slot(integration, environment), value("x")).Wants(http.StatusCreated)
		}
	}
	c.as(stranger).Put(slot("slack", "staging"), value("x")).Wants(http.StatusCreated)
	all, everywhere := c.sees(admin)
	if all.Credentials != 8 || all.ConfiguredIn != 8 || all.Environments != 4 || all.Keys != 7 || all.Audit != 8 {
		t.Errorf("the admin sees %+v", all)
	}
	in := func(allowed func(place string) bool) []string {
		return slices.DeleteFunc(slices.Clone(everywhere), func(place string) bool { return !allowed(place) })
	}
	n := all.Integrations
	for caller, want := range map[int]struct {
		seen
		places []string
	}{
		reader: {seen{n, n, 8, 8, 4, 0, 0}, everywhere},
		stagingReader: {seen{n, n, 4, 4, 1, 0, 0}, in(func(p string) bool {
			return strings.HasSuffix(p, "staging") || strings.HasSuffix(p, "null")
		})},
		slackReader: {seen{1, 1, 4, 4, 4, 0, 0}, in(func(p string) bool { return strings.HasPrefix(p, "slack") })},
		stranger:    {seen{n, n, 1, 1, 4, 1, 1}, []string{"slack staging"}},
		// Its own key, and those whose grant is within its own.
		lesserAdmin: {seen{n, n, 6, 6, 3, 2, 6}, in(func(p string) bool { return !strings.HasSuffix(p, "production") })},
	} {
		got, places := c.sees(caller)
		if got != want.seen {
			t.Errorf("%s sees %+v, want %+v", callerNames[caller], got, want.seen)
		}
		if diff := cmp.Diff(want.places, places); diff != "" {
			t.Errorf("%s sees credentials (-want +got):\n%s", callerNames[caller], diff)
		}
	}
}

// TestForeignIDsAreUnknown compares, for every route with an ID, the answer for an
// ID of another org or of another integration with that for one that never was.
func TestForeignIDsAreUnknown(t *testing.T) { onEach(t, testForeignIDsAreUnknown) }

func testForeignIDsAreUnknown(t *testing.T, on *sidecar.Binary) {
	c := newCompany(t, on)
	made := c.admin.Put(slot("salesforce", "production"), value("x")).Wants(http.StatusCreated)
	foreign := sidecar.Data[wire.SetResult](made).ID
	for _, route := range rest.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if !strings.Contains(path, "/{id}") || strings.Contains(path, "/keys/") {
			continue
		}
		get := func(caller int, integration, id string) string {
			target := strings.NewReplacer("{integration}", integration, "{id}", id).Replace(path)
			a := c.as(caller).Do(method, target, c.body(route, "x"), "X-Request-Id: same").Wants(http.StatusNotFound)
			return variable["TIME"].ReplaceAllString(strings.ReplaceAll(string(a.Body), id, "ID"), "TIME")
		}
		if a, b := get(stranger, "salesforce", foreign), get(stranger, "salesforce", someID); a != b {
			t.Errorf("%s: another org's ID answers\n%s, an unknown one\n%s", route, a, b)
		}
		if !strings.Contains(path, "{integration}") {
			continue
		}
		if a, b := get(admin, "slack", foreign), get(admin, "slack", someID); a != b {
			t.Errorf("%s: another integration's ID answers\n%s, an unknown one\n%s", route, a, b)
		}
	}
	wantsSecret(t, c.admin, resolve("salesforce", "production"), "x", "production")
}
