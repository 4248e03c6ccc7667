// Package codes is the one table of which HTTP status each kind of error has, for
// every interface that shows errors to callers. An error's code is its kind's name:
// REST prints it in UPPER_SNAKE, MCP as it is.
package codes

import (
	"net/http"

	"github.com/sidevault/sidevault/vault"
)

// Status returns the status of a kind of error.
func Status(k vault.Kind) int { return statuses[k] }

// statuses maps every kind of error to its status. No other file mentions a status
// for an error.
var statuses = map[vault.Kind]int{
	vault.Internal:             http.StatusInternalServerError,
	vault.InvalidRequest:       http.StatusBadRequest,
	vault.ValidationFailed:     http.StatusUnprocessableEntity,
	vault.InvalidCredentials:   http.StatusBadRequest,
	vault.IntegrationDisabled:  http.StatusBadRequest,
	vault.Unauthorized:         http.StatusUnauthorized,
	vault.ForbiddenAdminScope:  http.StatusForbidden,
	vault.Forbidden:            http.StatusForbidden,
	vault.IntegrationNotFound:  http.StatusNotFound,
	vault.CredentialNotFound:   http.StatusNotFound,
	vault.KeyNotFound:          http.StatusNotFound,
	vault.CredentialDeleted:    http.StatusConflict,
	vault.CredentialExists:     http.StatusConflict,
	vault.IntegrationExists:    http.StatusConflict,
	vault.CredentialInactive:   http.StatusConflict,
	vault.CredentialExpired:    http.StatusConflict,
	vault.VersionConflict:      http.StatusPreconditionFailed,
	vault.PayloadTooLarge:      http.StatusRequestEntityTooLarge,
	vault.RateLimited:          http.StatusTooManyRequests,
	vault.ToolSetupFailed:      http.StatusInternalServerError,
	vault.Integrity:            http.StatusInternalServerError,
	vault.EnvironmentLocked:    http.StatusServiceUnavailable,
	vault.ValidatorUnavailable: http.StatusServiceUnavailable,
	vault.BackendUnavailable:   http.StatusServiceUnavailable,
}
