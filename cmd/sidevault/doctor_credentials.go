package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sidevault/sidevault/api/client"
	"github.com/sidevault/sidevault/api/wire"
)

// probation is how old a credential must be before it counts that nobody reads it.
const probation = 7 * 24 * time.Hour

// examineCredentials looks at the age and the use of what is set.
func (d *doctor) examineCredentials(ctx context.Context, c *client.Client, admin bool) {
	const check = "credentials"
	disabled := map[string]bool{}
	entries, err := c.Integrations(ctx, client.IntegrationFilter{})
	if err != nil {
		d.fault(check, err)
		return
	}
	for _, i := range entries.Data {
		disabled[i.ID] = !i.Enabled
	}
	n, before := 0, len(d.list)
	for cred, err := range c.List(ctx, client.CredentialFilter{Usage: admin, PageSize: maxPage}) {
		if err != nil {
			d.fault(check, err)
			return
		}
		n++
		d.examineLife(cred)
		if disabled[cred.IntegrationID] {
			d.say(severityInfo, "unused", "sidevault delete "+slotArguments(cred), "%s is set, and its integration is disabled", placeOf(cred))
		} else if admin && cred.Status == "active" {
			d.examineUse(cred)
		}
	}
	if len(d.list) == before {
		d.say(severityOK, check, "", "%s, none of them old or unused", counted(uint64(n), "credential"))
	}
}

func placeOf(c wire.Credential) string { return describe(c.IntegrationID, c.Environment, c.Name) }

// slotArguments names a credential as the commands do.
func slotArguments(c wire.Credential) string {
	text := quoted(c.IntegrationID)
	if c.Environment != nil {
		text += " -e " + quoted(*c.Environment)
	}
	if c.Name != "default" {
		text += " --name " + quoted(c.Name)
	}
	return text
}

// examineLife looks at expiry, status and age.
func (d *doctor) examineLife(c wire.Credential) {
	set := "sidevault set " + slotArguments(c)
	age := d.now.Sub(time.Time(c.UpdatedAt))
	switch {
	case c.Status == "expired":
		d.say(severityError, "expiry", set+", or sidevault delete "+slotArguments(c), "%s expired on %s, and is refused", placeOf(c), showTime(c.ExpiresAt))
	case c.Status == "inactive":
		d.say(severityInfo, "unused", "sidevault credential update "+c.ID+" --status active, or sidevault delete "+slotArguments(c), "%s is inactive since %s, and is refused", placeOf(c), showTime(&c.UpdatedAt))
	case c.ExpiresAt != nil && time.Time(*c.ExpiresAt).Sub(d.now) < d.expiresWithin:
		d.say(severityWarning, "expiry", set, "%s expires on %s", placeOf(c), showTime(c.ExpiresAt))
	case age > d.maxAge:
		d.say(severityWarning, "rotation", "sidevault catalog show "+quoted(c.IntegrationID)+" says how to rotate it, then "+set,
			"%s has not changed for %s", placeOf(c), showAge(age))
	}
}

// examineUse looks whether anybody reads it.
func (d *doctor) examineUse(c wire.Credential) {
	cure := fmt.Sprintf("sidevault credential update %s --status inactive shows whether it is missed", c.ID)
	switch {
	case c.LastReadAt == nil && d.now.Sub(time.Time(c.CreatedAt)) > min(probation, d.unread):
		d.say(severityInfo, "unused", cure, "%s is set since %s, and nobody ever read it", placeOf(c), showTime(&c.CreatedAt))
	case c.LastReadAt != nil && d.now.Sub(time.Time(*c.LastReadAt)) > d.unread:
		d.say(severityInfo, "unused", cure, "%s was last read on %s", placeOf(c), showTime(c.LastReadAt))
	}
}
