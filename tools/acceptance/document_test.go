package acceptance

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sidevault/sidevault/api"
	"github.com/sidevault/sidevault/api/rest"
	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

func TestDocumentIsServed(t *testing.T) {
	s := binary.Serve(t)
	if got := s.Client("").Get("/openapi.yaml").Wants(200); string(got.Body) != string(api.OpenAPI()) {
		t.Error("/openapi.yaml is not api/openapi.yaml")
	}
}

func TestRoutesAreOperations(t *testing.T) {
	routes := rest.Routes()
	slices.Sort(routes)
	if diff := cmp.Diff(document.Operations(), routes); diff != "" {
		t.Errorf("the document's operations (-) and the server's routes (+) differ:\n%s", diff)
	}
}

func TestCodesAreKinds(t *testing.T) {
	var kinds []string
	for _, k := range vault.Kinds() {
		kinds = append(kinds, strings.ToUpper(k.String()))
	}
	if diff := cmp.Diff(document.Enum("Code"), kinds); diff != "" {
		t.Errorf("the document's codes (-) and the vault's kinds (+) differ:\n%s", diff)
	}
}

// schemas are the types of api/wire and the schemas that describe them.
func schemas() map[string]any {
	return map[string]any{
		"Actor":                    wire.Actor{},
		"AuditActor":               wire.AuditActor{},
		"AuditEntry":               wire.AuditEntry{},
		"AuditHead":                wire.AuditHead{},
		"AuditHeadEnvelope":        wire.Envelope[wire.AuditHead]{},
		"AuditPage":                wire.Page[wire.AuditEntry]{},
		"Category":                 wire.Category{},
		"CategoryPage":             wire.Page[wire.Category]{},
		"Check":                    wire.Check{},
		"Consumer":                 wire.Consumer{},
		"CreateKeyRequest":         wire.CreateKeyRequest{},
		"CreateRequest":            wire.CreateRequest{},
		"Credential":               wire.Credential{},
		"CredentialEnvelope":       wire.Envelope[wire.Credential]{},
		"CredentialPage":           wire.Page[wire.Credential]{},
		"Detail":                   wire.Detail{},
		"Environment":              wire.Environment{},
		"EnvironmentPage":          wire.Page[wire.Environment]{},
		"Error":                    wire.Error{},
		"Failure":                  wire.Failure{},
		"Field":                    wire.Field{},
		"Health":                   wire.Health{},
		"Integration":              wire.Integration{},
		"IntegrationEnvelope":      wire.Envelope[wire.Integration]{},
		"IntegrationPage":          wire.Page[wire.Integration]{},
		"KeptVersion":              wire.Version{},
		"Key":                      wire.Key{},
		"KeyEnvelope":              wire.Envelope[wire.Key]{},
		"KeyPage":                  wire.Page[wire.Key]{},
		"NewKey":                   wire.NewKey{},
		"NewKeyEnvelope":           wire.Envelope[wire.NewKey]{},
		"Org":                      wire.Org{},
		"RegisterRequest":          wire.RegisterRequest{},
		"Removal":                  wire.Removal{},
		"RemovalEnvelope":          wire.SlotEnvelope[wire.Removal]{},
		"RemovedEnvelope":          wire.Envelope[wire.Removal]{},
		"Resolved":                 wire.Resolved{},
		"ResolvedEnvelope":         wire.Envelope[wire.Resolved]{},
		"Plugin":                   wire.Plugin{},
		"PluginPage":               wire.Page[wire.Plugin]{},
		"RetryRequest":             wire.RetryRequest{},
		"RetryResult":              wire.RetryResult{},
		"RetryResultEnvelope":      wire.Envelope[wire.RetryResult]{},
		"RollbackRequest":          wire.RollbackRequest{},
		"Rotation":                 wire.Rotation{},
		"RotationEnvelope":         wire.Envelope[wire.Rotation]{},
		"SetRequest":               wire.SetRequest{},
		"SetResult":                wire.SetResult{},
		"SetResultEnvelope":        wire.SlotEnvelope[wire.SetResult]{},
		"SlotStatus":               wire.SlotStatus{},
		"SlotStatusEnvelope":       wire.Envelope[wire.SlotStatus]{},
		"Sync":                     wire.Sync{},
		"SyncPage":                 wire.Page[wire.Sync]{},
		"TestRequest":              wire.TestRequest{},
		"TestResult":               wire.TestResult{},
		"TestResultEnvelope":       wire.Envelope[wire.TestResult]{},
		"UpdateIntegrationRequest": wire.UpdateIntegrationRequest{},
		"UpdateRequest":            wire.UpdateRequest{},
		"Usage":                    wire.Usage{},
		"UsageEnvelope":            wire.Envelope[wire.Usage]{},
		"VersionPage":              wire.Page[wire.Version]{},
		"WatchEvent":               wire.WatchEvent{},
		"Whoami":                   wire.Whoami{},
		"WhoamiEnvelope":           wire.Envelope[wire.Whoami]{},
	}
}

func TestSchemasAreTypes(t *testing.T) {
	types := schemas()
	for _, name := range document.Objects() {
		if _, known := types[name]; !known {
			t.Errorf("schema %s describes no type", name)
		}
	}
	for name, value := range types {
		all, required, ok := document.Members(name)
		if !ok {
			t.Errorf("%T has no schema %s", value, name)
			continue
		}
		members, always := members(reflect.TypeOf(value))
		if diff := cmp.Diff(all, members); diff != "" {
			t.Errorf("members of schema %s (-) and %T (+) differ:\n%s", name, value, diff)
		}
		if !strings.HasSuffix(name, "Request") && !cmp.Equal(required, always) {
			t.Errorf("schema %s requires %v, and %T always has %v", name, required, value, always)
		}
	}
}

// members returns the JSON names of a struct's fields, those of embedded structs
// included, and of those that are always encoded, both sorted.
func members(typ reflect.Type) (all, always []string) {
	for _, f := range reflect.VisibleFields(typ) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			continue
		}
		all = append(all, name)
		if !strings.Contains(options, "omit") {
			always = append(always, name)
		}
	}
	slices.Sort(all)
	slices.Sort(always)
	return all, always
}
