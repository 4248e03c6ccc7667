// Package contract holds a server to its OpenAPI document. A [Recorder] stands
// between a client and the server, checks every exchange, and notes which of the
// documented answers were seen.
//
// What it reports names the part of a body that is wrong and never quotes it:
// bodies hold secrets.
package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// Document is a valid OpenAPI document.
type Document struct {
	spec   *openapi3.T
	router routers.Router
}

// Load parses and validates a document, its examples too. Exchanges are held to
// it strictly: a member of a body that the document does not have is a fault,
// although clients must put up with new ones.
func Load(text []byte) (*Document, error) {
	spec, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, err
	}
	if err := spec.Validate(context.Background(), openapi3.EnableExamplesValidation(), openapi3.EnableSchemaFormatValidation()); err != nil {
		return nil, err
	}
	for _, schema := range spec.Components.Schemas {
		closeObject(schema.Value)
	}
	router, err := gorillamux.NewRouter(spec)
	if err != nil {
		return nil, err
	}
	return &Document{spec: spec, router: router}, nil
}

// closeObject refuses members that an object's schema does not name.
func closeObject(s *openapi3.Schema) {
	if len(s.Properties) > 0 && s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil {
		no := false
		s.AdditionalProperties.Has = &no
	}
}

// Operations returns every operation with the path under its first server, as in
// "GET /v1/integrations/{integration}".
func (d *Document) Operations() []string {
	var names []string
	for path, item := range d.spec.Paths.Map() {
		servers := d.spec.Servers
		if len(item.Servers) > 0 {
			servers = item.Servers
		}
		for method := range item.Operations() {
			names = append(names, method+" "+strings.TrimSuffix(servers[0].URL, "/")+path)
		}
	}
	slices.Sort(names)
	return names
}

// Members returns the names of an object schema's properties and of those that it
// requires, sorted; ok is false when there is no such schema.
func (d *Document) Members(schema string) (all, required []string, ok bool) {
	ref, ok := d.spec.Components.Schemas[schema]
	if !ok {
		return nil, nil, false
	}
	for name := range ref.Value.Properties {
		all = append(all, name)
	}
	slices.Sort(all)
	return all, slices.Sorted(slices.Values(ref.Value.Required)), true
}

// Objects returns the names of the schemas that have members, sorted.
func (d *Document) Objects() []string {
	var names []string
	for name, ref := range d.spec.Components.Schemas {
		if len(ref.Value.Properties) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// CheckValue holds a JSON text to a schema of the document.
func (d *Document) CheckValue(schema string, text []byte) error {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return fmt.Errorf("%d bytes are not JSON", len(text))
	}
	if err := d.spec.Components.Schemas[schema].Value.VisitJSON(value, openapi3.EnableFormatValidation()); err != nil {
		return fmt.Errorf("not a %s: %s", schema, blind(err))
	}
	return nil
}

// Enum returns the strings that a schema lists.
func (d *Document) Enum(schema string) []string {
	var values []string
	for _, v := range d.spec.Components.Schemas[schema].Value.Enum {
		values = append(values, fmt.Sprint(v))
	}
	return values
}

// Answers returns every documented pair of operation and status, as in
// "whoami 200".
func (d *Document) Answers() []string {
	var list []string
	for _, item := range d.spec.Paths.Map() {
		for _, op := range item.Operations() {
			for status := range op.Responses.Map() {
				list = append(list, op.OperationID+" "+status)
			}
		}
	}
	slices.Sort(list)
	return list
}

func answerName(op *openapi3.Operation, status int) string {
	return op.OperationID + " " + strconv.Itoa(status)
}

// find returns the operation that a request is for, or nil.
func (d *Document) find(req *http.Request) (*routers.Route, map[string]string) {
	route, params, err := d.router.FindRoute(req)
	if err != nil {
		return nil, nil
	}
	return route, params
}

// Answering returns the operations that document an answer with that status.
func (d *Document) Answering(status string) []string {
	var ids []string
	for _, name := range d.Answers() {
		if id, ok := strings.CutSuffix(name, " "+status); ok {
			ids = append(ids, id)
		}
	}
	return ids
}
