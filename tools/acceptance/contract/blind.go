package contract

import (
	"errors"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
)

// blind says where a validation error is and which rule it breaks. The error's
// own text is dropped, since it quotes the body.
func blind(err error) string {
	where := ""
	if e, ok := errors.AsType[*openapi3filter.RequestError](err); ok {
		where = requestPart(e)
	}
	if e, ok := errors.AsType[*openapi3filter.ResponseError](err); ok {
		where = e.Reason
	}
	if faults := schemaFaults(err); len(faults) > 0 {
		where += ": " + strings.Join(faults, "; ")
	}
	return where
}

func requestPart(e *openapi3filter.RequestError) string {
	switch {
	case e.Parameter != nil:
		return "parameter " + e.Parameter.Name
	case e.RequestBody != nil:
		return "request body"
	default:
		return e.Reason
	}
}

// schemaFaults names the parts of a value that break their schema.
func schemaFaults(err error) []string {
	var faults []string
	if multi, ok := errors.AsType[openapi3.MultiError](err); ok {
		for _, e := range multi {
			faults = append(faults, schemaFaults(e)...)
		}
		return faults
	}
	e, ok := errors.AsType[*openapi3.SchemaError](err)
	if !ok {
		return nil
	}
	if origin := schemaFaults(e.Origin); len(origin) > 0 {
		return origin
	}
	return []string{"/" + strings.Join(e.JSONPointer(), "/") + " breaks " + e.SchemaField}
}
