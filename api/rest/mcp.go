package rest

import (
	"net/http"

	"github.com/sidevault/sidevault/vault"
)

// MCP serves the Model Context Protocol at /mcp, to whoever passed the checks that
// every request passes.
type MCP interface {
	// Serve answers a request. Still authenticates its caller once more, for an answer
	// that takes long; it may be called until Serve returns. After an error nothing was
	// answered yet.
	Serve(w http.ResponseWriter, r *http.Request, c vault.Caller, still func() error) error
}

// mcpPath is where MCP is served, and nowhere else.
const mcpPath = "/mcp"

func (s *server) serveMCP(r *request) (answer, error) {
	if s.mcp == nil {
		s.noRoute(r)
		return answer{}, nil
	}
	return answer{}, s.mcp.Serve(r.gin.Writer, r.gin.Request, r.caller, func() error {
		again := *r
		return s.authenticate(&again)
	})
}
