package rest

import (
	"net/http"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/envs"
	"github.com/sidevault/sidevault/vault"
)

// sharedName stands for the scope that all environments share, where a path has to
// name it.
const sharedName = "@shared"

// rotated returns the scope that the path names.
func (s *server) rotated(r *request) (envs.Scope, error) {
	name := r.gin.Param("environment")
	if name == sharedName {
		return envs.Shared, nil
	}
	return s.vault.Scope(&name)
}

// startRotation gives an environment a new key, and does not wait for its records.
func (s *server) startRotation(r *request) (answer, error) {
	if err := r.readNothing(); err != nil {
		return answer{}, err
	}
	scope, err := s.rotated(r)
	if err != nil {
		return answer{}, err
	}
	rotation, err := s.vault.StartRotation(r.ctx(), r.caller, scope)
	if err != nil {
		return answer{}, err
	}
	out := ok(wireRotation(rotation), "The key of "+scope.String()+" is being rotated")
	out.status = http.StatusAccepted
	return out, nil
}

// showRotation says how far a rotation is.
func (s *server) showRotation(r *request) (answer, error) {
	scope, err := s.rotated(r)
	if err != nil {
		return answer{}, err
	}
	rotation, err := s.vault.Rotation(r.ctx(), r.caller, scope)
	if err != nil {
		return answer{}, err
	}
	return ok(wireRotation(rotation), ""), nil
}

func wireRotation(r vault.Rotation) wire.Rotation {
	out := wire.Rotation{
		Environment: r.Scope.Ptr(), Running: r.Running, Key: r.Key, Recipient: r.Recipient,
		StartedAt: wire.Optional(r.StartedAt), Done: r.Done, Total: r.Total, Damaged: r.Damaged,
	}
	if r.Running {
		by := actor(r.StartedBy)
		out.StartedBy = &by
	}
	return out
}
