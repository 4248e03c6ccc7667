package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

// examineVault looks at what the sidecar tells the caller.
func (d *doctor) examineVault(ctx context.Context, c *client.Client) {
	before := time.Now()
	me, err := c.Whoami(ctx)
	if err != nil {
		d.fault("API key", err)
		return
	}
	d.skew("the sidecar's clock", time.Time(me.Timestamp), before, time.Now())
	d.examineIssuer(ctx)
	admin := me.Data.Scope == wire.ScopeAdmin
	d.examineKeys(ctx, c, admin)
	d.examineCredentials(ctx, c, admin)
	if !admin {
		d.say(severityUnseen, "audit log, plugins, outbox, API keys, usage", "use an API key of admin scope", "%q has scope %s", me.Data.Name, me.Data.Scope)
		return
	}
	d.examinePlugins(ctx, c)
	d.examineOutbox(ctx, c)
	d.examineAPIKeys(ctx, c)
	d.examineAudit(ctx)
}

// maxSkew is how far clocks may be apart: what expires then does so at the wrong moment.
const maxSkew = 5 * time.Second

// skew compares another clock with this one, which was read before and after.
func (d *doctor) skew(whose string, other, before, after time.Time) {
	const cure = "timedatectl status on both hosts"
	// Other clocks tell milliseconds, or seconds.
	if ahead := other.Sub(after); ahead > maxSkew {
		d.say(severityWarning, "clock", cure, "%s is %s ahead of this host's", whose, ahead.Round(time.Second))
	} else if behind := before.Sub(other); behind > maxSkew {
		d.say(severityWarning, "clock", cure, "%s is %s behind this host's", whose, behind.Round(time.Second))
	} else {
		d.say(severityOK, "clock", "", "%s agrees with this host's", whose)
	}
}

// examineIssuer compares this clock with that of the tokens' issuer.
func (d *doctor) examineIssuer(ctx context.Context) {
	if !strings.HasPrefix(d.cfg.JWT.JWKS, "http") {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, d.cfg.JWT.JWKS, nil)
	if err != nil {
		d.fault("token issuer", err)
		return
	}
	before := time.Now()
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		d.say(severityWarning, "token issuer", "look at jwt.jwks, and at the way there", "its keys cannot be fetched: %s", err)
		return
	}
	res.Body.Close()
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		d.skew("the clock of the tokens' issuer", at, before.Add(-time.Second), time.Now())
	}
}

func (d *doctor) examineKeys(ctx context.Context, c *client.Client, admin bool) {
	list, err := c.Environments(ctx)
	if err != nil {
		d.fault("keys", err)
		return
	}
	var alone []string
	for _, e := range list.Data {
		if !e.KeyHeld {
			d.say(severityInfo, "keys", "on a host that has it: sidevault env share "+quoted(e.Name)+" --recipient RECIPIENT", "the sidecar has no key for %s, and can neither read nor set there", e.Name)
			continue
		}
		d.say(severityOK, "keys", "", "the sidecar has the key of %s", e.Name)
		if admin && len(e.Recipients) == 1 {
			alone = append(alone, e.Name)
		}
	}
	if len(alone) > 0 {
		d.say(severityInfo, "keys", "sidevault env share --all --recipient RECIPIENT, with a recovery key that is kept elsewhere",
			"one identity alone opens %s: when it is lost, so are they", strings.Join(alone, ", "))
	}
}

func (d *doctor) examinePlugins(ctx context.Context, c *client.Client) {
	list, err := c.Plugins(ctx)
	if err != nil {
		d.fault("plugins", err)
		return
	}
	for _, p := range list.Data {
		switch p.Status {
		case "unusable", "quarantined":
			d.say(severityError, "plugins", "sidevault plugin check "+quoted(p.Path)+", mend it, and reload the sidecar with SIGHUP", "%s is %s: %s", p.Name, p.Status, p.Reason)
		case "backoff":
			d.say(severityWarning, "plugins", "sidevault plugin list, and the sidecar's log", "%s failed, and is started again: %s", p.Name, p.Reason)
		default:
			d.say(severityOK, "plugins", "", "%s is %s", p.Name, p.Status)
		}
	}
}

// outboxPatience is how old a change may be that a syncer has not taken.
const outboxPatience = 10 * time.Minute

func (d *doctor) examineOutbox(ctx context.Context, c *client.Client) {
	waiting := 0
	for s, err := range c.Syncs(ctx, client.SyncFilter{PageSize: maxPage}) {
		if err != nil {
			d.fault("outbox", err)
			return
		}
		place := describe(s.IntegrationID, s.Environment, s.Name)
		switch {
		case s.State == "failing":
			d.say(severityWarning, "outbox", "sidevault sync list; when it is mended, sidevault sync retry", "%s: %s does not take the change (%s): %s", place, s.Plugin, counted(uint64(s.Attempts), "attempt"), s.LastError)
		case s.ChangedAt != nil && d.now.Sub(time.Time(*s.ChangedAt)) > outboxPatience:
			d.say(severityWarning, "outbox", "sidevault sync retry", "%s has waited for %s since %s", place, s.Plugin, showTime(s.ChangedAt))
		default:
			continue
		}
		waiting++
	}
	if waiting == 0 {
		d.say(severityOK, "outbox", "", "nothing waits")
	}
}

func (d *doctor) examineAPIKeys(ctx context.Context, c *client.Client) {
	list, err := c.Keys(ctx)
	if err != nil {
		d.fault("API keys", err)
		return
	}
	for _, k := range list.Data {
		if k.RevokedAt != nil || k.ExpiresAt == nil {
			continue
		}
		left := time.Time(*k.ExpiresAt).Sub(d.now)
		switch {
		case left <= 0:
			d.say(severityInfo, "API keys", "sidevault key revoke "+k.ID, "%s (%s) expired on %s", k.Name, k.ID, showTime(k.ExpiresAt))
		case left < d.expiresWithin:
			d.say(severityWarning, "API keys", "sidevault key create, hand it over, and revoke the old one", "%s (%s) expires on %s", k.Name, k.ID, showTime(k.ExpiresAt))
		}
	}
	d.say(severityOK, "API keys", "", "%s", counted(uint64(len(list.Data)), "key"))
}

// examineAudit has the chain walked, which takes as long as the log is.
func (d *doctor) examineAudit(ctx context.Context) {
	const check = "audit log"
	c, err := d.patient()
	if err != nil {
		d.fault(check, err)
		return
	}
	head, err := c.AuditHead(ctx, true)
	switch {
	case err != nil:
		d.fault(check, err)
	case head.Data.Intact == nil || !*head.Data.Intact:
		d.say(severityError, check, "keep the storage as it is, and compare it with a backup: sidevault backup verify FILE", "its chain is broken at entry %d: %s", head.Data.BrokenAt, head.Data.Reason)
	default:
		d.say(severityOK, check, "", "its chain of %d entries is intact", head.Data.Seq)
	}
}
