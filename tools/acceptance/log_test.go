package acceptance

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sidevault/sidevault/tools/acceptance/sidecar"
)

// wantsLine waits for the line with that message which the log has for a request, and
// returns it.
func wantsLine(t *testing.T, s *sidecar.Sidecar, message, requestID string) (found map[string]any) {
	t.Helper()
	waitFor(t, "the line of request "+requestID+": "+message, func() bool {
		for line := range strings.Lines(s.Log()) {
			var l map[string]any
			if json.Unmarshal([]byte(line), &l) == nil && l["msg"] == message && l["request_id"] == requestID {
				found = l
			}
		}
		return found != nil
	})
	return found
}
