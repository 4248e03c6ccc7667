package rest

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sidevault/sidevault/api"
	"github.com/sidevault/sidevault/api/wire"
)

// health answers that the process serves requests.
func (s *server) health(*request) (answer, error) {
	return answer{status: http.StatusOK, body: wire.Health{Status: "ok"}}, nil
}

// showMetrics and showContract write their own bodies, which are not JSON.
func (s *server) showMetrics(r *request) (answer, error) {
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}).ServeHTTP(r.gin.Writer, r.gin.Request)
	return answer{}, nil
}

func (s *server) showContract(r *request) (answer, error) {
	r.gin.Header("Content-Type", "application/yaml; charset=utf-8")
	_ = api.WriteOpenAPI(r.gin.Writer) // to one who is gone, or does not read
	return answer{}, nil
}

func now() time.Time { return time.Now() }

// moment is a time from the wire, in the precision that times are stored with.
func moment(t wire.Time) time.Time { return time.Time(t).UTC().Truncate(time.Millisecond) }

// wireTime is a time out of an audit entry, which has the format of the wire.
func wireTime(s string) (t wire.Time) {
	// An entry whose time does not parse is shown with the zero time.
	_ = t.UnmarshalText([]byte(s))
	return t
}
