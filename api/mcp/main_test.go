package mcp_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No test leaves a goroutine behind, but for those of sessions that their client has not
// ended: they end when they have been idle, which takes longer than the tests.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/modelcontextprotocol/go-sdk/mcp.(*streamableServerConn).Read"))
}
