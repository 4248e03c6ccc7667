// Package pluginpb is version 1 of the protocol between Sidevault and its plugins:
// the code generated from plugins/proto, and what both sides must agree on before
// the first call. Authors of Go plugins use plugins/sdk instead.
package pluginpb

// What the sidecar and a plugin agree on in the handshake of
// github.com/hashicorp/go-plugin.
const (
	// ProtocolVersion is the version of plugins/proto.
	ProtocolVersion = 1
	// CookieKey and CookieValue tell a plugin that the sidecar started it. They are
	// no secret.
	CookieKey   = "SIDEVAULT_PLUGIN"
	CookieValue = "5f4b7c0d-sidevault-plugin-v1"
)

// What a plugin can be, as DescribeResponse.services lists it.
const (
	ServiceValidator = "validator"
	ServiceSyncer    = "syncer"
)
