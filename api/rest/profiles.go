package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// API is the handler of the whole API.
type API struct {
	http.Handler
	server *server
}

// Profiles returns a handler of the GET requests below a path that [net/http/pprof]
// answers. It is for a listener of its own: what it takes is authenticated and guarded
// as the API's requests are, recorded in the audit log, and passed on to h for admins
// alone.
func (a *API) Profiles(path string, h http.Handler) http.Handler {
	s := a.server
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.NoRoute(s.handler("", noRoute, s.noRoute))
	engine.NoMethod(s.handler("", noRoute, s.noMethod))
	profile := route{
		method: http.MethodGet, query: []string{"seconds", "debug", "gc"},
		do: func(r *request) (answer, error) {
			if err := s.vault.Profile(r.ctx(), r.caller, r.gin.Param("profile")); err != nil {
				return answer{}, err
			}
			h.ServeHTTP(r.gin.Writer, r.gin.Request)
			return answer{}, nil
		},
	}
	engine.GET(path+":profile", s.handler(http.MethodGet, path+":profile", func(r *request) { s.serve(r, profile) }))
	return engine
}
