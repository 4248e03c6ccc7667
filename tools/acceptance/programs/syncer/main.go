// Command syncer hands every change to the HTTP server that its binding's config
// names, and fails when that does, for the tests of what the sidecar makes of it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/sidevault/sidevault/plugins/sdk"
)

type config struct {
	URL string `json:"url"`
}

// change is what the server gets.
type change struct {
	Change, Integration, Environment, Name, ID, Key, Value string
	Version                                                uint64
	Attempt                                                int
}

type syncer struct{}

func (syncer) Sync(ctx context.Context, r sdk.SyncRequest) (sdk.SyncResult, error) {
	var c config
	if err := r.Config.Decode(&c); err != nil {
		return sdk.SyncResult{}, err
	}
	body, err := json.Marshal(change{
		Change: string(r.Change), Integration: r.Place.Integration, Environment: r.Place.Environment, Name: r.Place.Name,
		ID: r.CredentialID, Key: r.IdempotencyKey, Value: r.Value().Reveal(), Version: r.Version, Attempt: r.Attempt,
	})
	if err != nil {
		return sdk.SyncResult{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return sdk.SyncResult{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return sdk.SyncResult{}, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if resp.StatusCode != http.StatusOK {
		return sdk.Fail("the other system answered %d: %s", resp.StatusCode, text), nil
	}
	return sdk.Done(), nil
}

func main() {
	sdk.ServeSyncer(syncer{}, sdk.Info{Name: "carrier", Version: "0.1.0"})
}
