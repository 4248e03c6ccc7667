// Command sidevault-syncer-webhook is a syncer that tells an HTTP endpoint of every
// change, signed as Standard Webhooks specifies. The secret value is in the message only
// where the catalog asks for it, and then goes over TLS or to this host. It follows no
// redirect, connects to no private address unless told to, and makes one request per
// call: the sidecar repeats what failed, with the same webhook-id.
package main

import (
	"os"

	"github.com/sidevault/sidevault/plugins/internal/release"
	"github.com/sidevault/sidevault/plugins/sdk"
)

func main() {
	sdk.ServeSyncer(syncer{env: os.Getenv}, sdk.Info{
		Name: "webhook", Version: release.Version(),
		Description: "Tells an HTTP endpoint of changes, signed as Standard Webhooks specifies.",
	})
}
