package mcp

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/sidevault/sidevault/vault"
)

// tool is one of the tools.
type tool struct {
	name  string
	title string
	doc   string // what it does, for the one who decides to call it
	// words, when not nil, returns what the description ends with: names that the
	// caller may use.
	words       func(Words) string
	admin       bool
	readOnly    bool
	destructive bool
	idempotent  bool
	params      []param
	result      any // of the type that do returns
	do          func(context.Context, Port, arguments) (any, error)
}

// adminPrefix begins the names of the tools that take admin scope.
const adminPrefix = "admin_"

// table is all tools. It is the only place that names them and their parameters.
func table() []tool {
	return []tool{setTool(), removeTool(), auditTool(), listTool(), statusTool(), environmentsTool()}
}

func keyParam() param {
	return param{
		name: "integration_key", kind: text, required: true, min: 1, max: vault.MaxIntegrationKey,
		doc: "Catalog key of the integration, as list_integrations names it, such as hginsights_v2 or salesforce.",
	}
}

func environmentParam(doc string) param {
	return param{name: "environment", kind: text, min: 1, max: 63, doc: doc}
}

func nameParam() param {
	return param{name: "name", kind: text, min: 1, max: vault.MaxName,
		doc: "Name of the credential, for integrations with more than one. Leave it out for the only one."}
}

func setTool() tool {
	return tool{
		name: "admin_set_integration_credentials", title: "Set integration credentials", admin: true, destructive: true,
		doc: "Set or rotate the credential of an integration. It becomes the one that services get from their next read on; " +
			"the one before it is kept as an older version. The value is checked before it is stored, and never shown again. " +
			"Give either value or fields. Requires an admin-scoped API key.",
		params: []param{
			keyParam(),
			{name: "value", kind: opaque, sensitive: true, min: 1, max: vault.MaxValue,
				doc: "The credential as one string. A secret: it is never echoed and never logged."},
			{name: "fields", kind: fields, sensitive: true, max: vault.MaxValue,
				doc: "The credential as fields, named as in list_integrations, instead of value. Secrets, as value is."},
			environmentParam("Environment to set it for. Leave it out to set it for all environments that have none of their own."),
			nameParam(),
		},
		result: setResult{},
		do:     set,
	}
}

func set(ctx context.Context, p Port, a arguments) (any, error) {
	slot, err := a.slot()
	if err != nil {
		return nil, err
	}
	if (a.value == nil) == (a.fields == nil) {
		if a.value == nil {
			return nil, invalid("value is missing; fields may be given instead of it")
		}
		return nil, invalid("value and fields are both given: give one of the two")
	}
	at, err := p.Set(ctx, slot, Credential{Value: a.value, Fields: a.fields})
	if err != nil {
		return nil, err
	}
	return setResult{Key: slot.Integration, IsConfigured: true, HasCredentials: true, UpdatedAt: Moment(at), Environment: slot.Environment}, nil
}

func removeTool() tool {
	return tool{
		name: "admin_remove_integration_credentials", title: "Remove integration credentials", admin: true, destructive: true, idempotent: true,
		doc: "Deactivate an integration by removing its credential. Succeeds whether or not there was one, so it is safe to repeat. " +
			"It touches the credential of the named environment alone; without one, the credential of all environments. " +
			"Requires an admin-scoped API key.",
		params: []param{
			keyParam(),
			environmentParam("Environment to remove it from. Leave it out to remove the credential of all environments."),
			nameParam(),
		},
		result: removeResult{},
		do: func(ctx context.Context, p Port, a arguments) (any, error) {
			slot, err := a.slot()
			if err != nil {
				return nil, err
			}
			if err := p.Remove(ctx, slot); err != nil {
				return nil, err
			}
			return removeResult{Key: slot.Integration, Environment: slot.Environment}, nil
		},
	}
}

func auditTool() tool {
	return tool{
		name: "admin_list_audit_log", title: "List the audit log", admin: true, readOnly: true, idempotent: true,
		doc: "List who did what to which credential, newest first: changes, reads, and what was refused. It holds no secret. " +
			"Requires an admin-scoped API key.",
		params: []param{
			{name: "limit", kind: number, min: 1, max: maxPage, doc: "How many entries at most; 50 unless given."},
			{name: "cursor", kind: text, min: 1, max: 32, doc: "nextCursor of the page before, to go on from there."},
			{name: "action", kind: text, min: 1, max: 63, doc: "Only this action, such as set_integration_credentials, remove_integration_credentials or read_integration_credentials."},
			{name: "integration_key", kind: text, min: 1, max: vault.MaxIntegrationKey, doc: "Only entries about this integration."},
			environmentParam("Only entries about this environment."),
			{name: "actor", kind: text, min: 1, max: 128, doc: "Only entries of the caller with this ID."},
			{name: "outcome", kind: text, min: 1, max: 63, doc: "Only entries with this outcome: success, or the code of an error, such as forbidden."},
			{name: "since", kind: moment, doc: "Only entries at or after this time."},
			{name: "until", kind: moment, doc: "Only entries before this time."},
		},
		result: AuditPage{},
		do: func(ctx context.Context, p Port, a arguments) (any, error) {
			page, err := p.Audit(ctx, AuditQuery{
				Limit: a.numbers["limit"], Cursor: a.texts["cursor"], Action: a.texts["action"], Integration: a.texts["integration_key"],
				Environment: a.optional("environment"), Actor: a.texts["actor"], Outcome: a.texts["outcome"],
				Since: a.moments["since"], Until: a.moments["until"],
			})
			page.Entries = present(page.Entries)
			return page, err
		},
	}
}

const maxPage = 500

func listTool() tool {
	return tool{
		name: "list_integrations", title: "List integrations", readOnly: true, idempotent: true,
		doc: "List the integrations of the catalog with their status: which have a credential, and in which environments. " +
			"Never shows a credential.",
		words: func(w Words) string { return enumerate("Keys of the catalog", w.Integrations) },
		params: []param{
			{name: "category", kind: text, min: 1, max: 63, doc: "Only integrations of this category, such as crm."},
			environmentParam("Look for credentials in this environment alone."),
			{name: "configured", kind: flag, doc: "Only integrations with (true) or without (false) a credential."},
		},
		result: integrationList{},
		do: func(ctx context.Context, p Port, a arguments) (any, error) {
			list, err := p.Integrations(ctx, IntegrationQuery{Category: a.texts["category"], Environment: a.optional("environment"), Configured: a.flag("configured")})
			for i := range list {
				list[i].ConfiguredIn = present(list[i].ConfiguredIn)
			}
			return integrationList{present(list)}, err
		},
	}
}

func statusTool() tool {
	return tool{
		name: "get_integration_status", title: "Get integration status", readOnly: true, idempotent: true,
		doc: "Say whether an integration has a credential for exactly this environment, and since when. Never shows the credential. " +
			"Without an environment it is about the credential of all environments.",
		params: []param{
			keyParam(),
			environmentParam("Environment to look in. Leave it out for the credential of all environments."),
			nameParam(),
		},
		result: Status{},
		do: func(ctx context.Context, p Port, a arguments) (any, error) {
			slot, err := a.slot()
			if err != nil {
				return nil, err
			}
			return p.Status(ctx, slot)
		},
	}
}

func environmentsTool() tool {
	return tool{
		name: "list_environments", title: "List environments", readOnly: true, idempotent: true,
		doc:    "List the environments that credentials can be set for, as far as the API key may use them.",
		words:  func(w Words) string { return enumerate("They are", w.Environments) },
		result: environmentList{},
		do: func(ctx context.Context, p Port, _ arguments) (any, error) {
			list, err := p.Environments(ctx)
			return environmentList{present(list)}, err
		},
	}
}

// slot reads the parameters that name a slot.
func (a arguments) slot() (Slot, error) {
	slot := Slot{Integration: a.texts["integration_key"], Environment: a.optional("environment"), Name: a.texts["name"]}
	if err := vault.CheckIntegrationKey(slot.Integration); err != nil {
		// The vault's own words can quote the key, which may be a secret in the wrong place.
		return Slot{}, invalid("integration_key is not a catalog key: it has 1 to 255 of A-Z a-z 0-9 . _ - with a letter or digit first")
	}
	if slot.Name != "" && !vault.IsName(slot.Name) {
		return Slot{}, invalid("name is not valid: it has 1 to 128 bytes of printable text, without space at its ends")
	}
	return slot, nil
}

// present makes an empty list of none, which JSON prints as null.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// wordsShown bounds a description: what is longer is not read, and costs every
// conversation.
const wordsShown = 200

func enumerate(what string, names []string) string {
	if len(names) == 0 || len(names) > wordsShown {
		return ""
	}
	return " " + what + ": " + strings.Join(names, ", ") + "."
}

// describe returns the tool as tools/list shows it.
func (t tool) describe(w Words) *sdk.Tool {
	no := false
	doc := t.doc
	if t.words != nil {
		doc += t.words(w)
	}
	return &sdk.Tool{
		Name: t.name, Title: t.title, Description: doc, InputSchema: t.input(), OutputSchema: t.output(),
		Annotations: &sdk.ToolAnnotations{
			Title: t.title, ReadOnlyHint: t.readOnly, DestructiveHint: &t.destructive, IdempotentHint: t.idempotent, OpenWorldHint: &no,
		},
	}
}

func (t tool) input() *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{}, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	for _, p := range t.params {
		s.Properties[p.name] = p.schema()
		s.PropertyOrder = append(s.PropertyOrder, p.name)
		if p.required {
			s.Required = append(s.Required, p.name)
		}
	}
	return s
}

// output describes both outcomes: clients hold the structured content of an error
// to it as well.
func (t tool) output() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AnyOf: []*jsonschema.Schema{schemaOf(t.result), schemaOf(Failure{})}}
}

// schemaOf describes a type of ours. That it cannot is a fault of this package.
func schemaOf(value any) *jsonschema.Schema {
	s, err := jsonschema.ForType(reflect.TypeOf(value), nil)
	if err != nil {
		panic(err)
	}
	tidy(s)
	return s
}

// tidy takes out what inference allows and this package never sends: null for a list.
func tidy(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	if slices.Contains(s.Types, "array") {
		s.Type, s.Types = "array", nil
	}
	for _, p := range s.Properties {
		tidy(p)
	}
	tidy(s.Items)
}
