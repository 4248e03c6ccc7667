// Command sidevault-syncer-trustradius is a syncer that keeps the credentials that
// TrustRadius's aggregator uses for an org the same as the vault's: PUT when one is
// set, DELETE when one is removed. The aggregator gets the fields themselves, over
// verified TLS, at one base URL that the operator gives. It follows no redirect, and
// repeats a request within a call only where that cannot do harm.
package main

import (
	"os"

	"github.com/sidevault/sidevault/plugins/internal/release"
	"github.com/sidevault/sidevault/plugins/sdk"
)

func main() {
	sdk.ServeSyncer(syncer{env: os.Getenv}, sdk.Info{
		Name: "trustradius", Version: release.Version(),
		Description: "Keeps the credentials of an org in TrustRadius's aggregator the same as the vault's.",
	})
}
