// Package api holds the contract of Sidevault's HTTP API: the OpenAPI document,
// which was there first and which the handlers in api/rest, the data types in
// api/wire and their tests follow. It serves the document and does nothing with
// it; no product code parses it.
package api

import (
	_ "embed"
	"io"
	"slices"
)

//go:embed openapi.yaml
var document []byte

// OpenAPI returns the OpenAPI 3.1 document of the HTTP API, as YAML. The slice is
// the caller's.
func OpenAPI() []byte { return slices.Clone(document) }

// WriteOpenAPI writes that document: one and the same for all who read it, however
// slowly.
func WriteOpenAPI(w io.Writer) error {
	_, err := w.Write(document)
	return err
}
