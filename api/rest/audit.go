package rest

import (
	"math"
	"strconv"

	"github.com/sidevault/sidevault/api/wire"
	"github.com/sidevault/sidevault/vault"
)

var auditParameters = []string{"limit", "cursor", "action", "integration", "environment", "actor", "outcome", "since", "until"}

// Limits of a page.
const (
	defaultPage = 50
	maxPage     = 500
)

func (s *server) listAudit(r *request) (answer, error) {
	q, err := s.auditQuery(r)
	if err != nil {
		return answer{}, err
	}
	entries, next, err := s.vault.Audit(r.ctx(), r.caller, q)
	if err != nil {
		return answer{}, err
	}
	list := make([]wire.AuditEntry, len(entries))
	for i, e := range entries {
		list[i] = auditEntry(e)
	}
	cursor := ""
	if next != 0 {
		cursor = strconv.FormatUint(next, 10)
	}
	return page(list, cursor), nil
}

func (s *server) auditQuery(r *request) (q vault.AuditQuery, err error) {
	limit, err := r.number("limit", defaultPage, 1, maxPage)
	if err != nil {
		return q, err
	}
	q.Limit = int(limit)
	if q.Before, err = r.number("cursor", 0, 1, math.MaxInt64); err != nil {
		return q, err
	}
	for name, to := range map[string]*string{"integration": &q.Integration, "actor": &q.ActorID} {
		if *to, err = r.name(name); err != nil {
			return q, err
		}
	}
	if q.Action, err = r.oneOf("action", vault.Actions()); err != nil {
		return q, err
	}
	if q.Outcome, err = r.oneOf("outcome", vault.Outcomes()); err != nil {
		return q, err
	}
	if environment := r.param("environment"); environment != nil {
		if _, err := s.vault.Scope(environment); err != nil {
			return q, err
		}
		q.Environment = environment
	}
	if q.Since, err = r.time("since"); err != nil {
		return q, err
	}
	q.Until, err = r.time("until")
	return q, err
}

func auditEntry(e vault.AuditEntry) wire.AuditEntry {
	return wire.AuditEntry{
		Seq: e.Seq, Time: wireTime(e.Time), Org: e.Org, Action: e.Action, TargetType: e.TargetType, TargetID: e.TargetID,
		Actor:       wire.AuditActor{ID: e.Actor.ID, Name: e.Actor.Name, Email: e.Actor.Email, Kind: e.Actor.Kind},
		Environment: e.Environment, Name: e.Name, CredentialID: e.CredentialID, Version: e.Version, Outcome: e.Outcome,
		Metadata: e.Metadata, RequestID: e.RequestID, Source: e.Source, Peer: e.Peer, Realm: e.Realm, Prev: e.Prev.String(), Hash: e.Hash.String(),
	}
}

func (s *server) auditHead(r *request) (answer, error) {
	verify, err := r.flag("verify", false)
	if err != nil {
		return answer{}, err
	}
	if !verify {
		head, err := s.vault.AuditHead(r.ctx(), r.caller)
		return ok(wire.AuditHead{Seq: head.Seq, Hash: head.Hash.String()}, ""), err
	}
	verdict, err := s.vault.VerifyAudit(r.ctx(), r.caller)
	if err != nil {
		return answer{}, err
	}
	intact := verdict.Broken == 0
	return ok(wire.AuditHead{
		Seq: verdict.Head.Seq, Hash: verdict.Head.Hash.String(), Intact: &intact, BrokenAt: verdict.Broken, Reason: verdict.Reason,
	}, ""), nil
}
