// Command sidevault-validator-http is a validator that asks the provider's own API
// whether a credential works: one request, made from a template in the catalog, whose
// status says valid, invalid or nothing. It sends the credential to that one host, over
// verified TLS, to no private address unless told to, and never in a URL unless told to.
// It repeats nothing of what the provider says.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/sidevault/sidevault/plugins/internal/egress"
	"github.com/sidevault/sidevault/plugins/internal/release"
	"github.com/sidevault/sidevault/plugins/sdk"
)

func main() {
	sdk.ServeValidator(validator{}, sdk.Info{
		Name: "http", Version: release.Version(),
		Description: "Asks the provider's HTTP API whether the credential works.",
	})
}

type validator struct {
	resolver *net.Resolver // nil: the system's
}

// Validate makes the request. Whatever is neither a valid nor an invalid status is no
// answer: an error.
func (v validator) Validate(ctx context.Context, r sdk.ValidateRequest) (sdk.ValidateResult, error) {
	plan, err := compile(r.Config)
	if err != nil {
		return sdk.ValidateResult{}, err
	}
	request, found, err := plan.build(ctx, r.Fields)
	if err != nil {
		return sdk.ValidateResult{}, errors.New("the request cannot be made from these fields")
	}
	if len(found) > 0 {
		return refuse(found), nil
	}
	client, err := egress.Rules{
		AllowPrivate: plan.AllowPrivate, LoopbackOnly: plan.to.plain && !plan.AllowHTTP,
		CAFile: plan.CAFile, FollowRedirects: plan.FollowRedirects, Resolver: v.resolver,
	}.Client()
	if err != nil {
		return sdk.ValidateResult{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return sdk.ValidateResult{}, fmt.Errorf("the provider %s", egress.Explain(err))
	}
	return plan.judge(response)
}

func refuse(found problems) sdk.ValidateResult {
	result := sdk.Reject("the provider cannot be asked with this credential")
	for name, what := range found {
		result = result.Field(name, "%s", what)
	}
	return result
}

func hasStatus(list []status, code int) bool {
	return slices.ContainsFunc(list, func(s status) bool { return s.has(code) })
}
