// Command sidevault-validator-acme asks Acme whether a key works, before Sidevault
// stores it.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/sidevault/sidevault/plugins/sdk"
)

// config is what the catalog says under config, where it binds this plugin.
type config struct {
	URL string `json:"url"`
}

type validator struct{ client *http.Client }

// Validate sends the key where it belongs, and to nobody else: redirects are not
// followed.
func (v validator) Validate(ctx context.Context, r sdk.ValidateRequest) (sdk.ValidateResult, error) {
	c := config{URL: "https://api.acme.example/v1/me"}
	if err := r.Config.Decode(&c); err != nil {
		return sdk.ValidateResult{}, err
	}
	key := r.Fields["api_key"].Reveal()
	if key == "" || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return sdk.Reject("Acme takes an API key").Field("api_key", "is missing, or has characters that no key has"), nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL, nil)
	if err != nil {
		return sdk.ValidateResult{}, errors.New("the url in the config of the catalog is none")
	}
	request.Header.Set("Authorization", "Bearer "+key)
	response, err := v.client.Do(request)
	if err != nil {
		return sdk.ValidateResult{}, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		return sdk.Accept(), nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return sdk.Reject("Acme does not know this key: create one under Settings, API keys").Field("api_key", "is refused by Acme"), nil
	}
	return sdk.ValidateResult{}, fmt.Errorf("acme answers with status %d", response.StatusCode)
}

func main() {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	sdk.ServeValidator(validator{client}, sdk.Info{Name: "acme", Version: "1.0.0", Description: "Asks Acme whether a key works."})
}
