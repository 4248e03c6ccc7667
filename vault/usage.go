package vault

import (
	"context"
	"slices"
	"time"

	"github.com/sidevault/sidevault/backends"
)

// usageDays is how far back usage is counted.
const usageDays = 30

// day is how a day is named in a usage document: UTC, so that it sorts.
const day = "2006-01-02"

// usageDoc is what is stored of one caller's reads of one credential, under
// usage/ORG/ID/KIND:CALLER: the same counts as the audit log's (see readUsage).
type usageDoc struct {
	Actor Actor          `json:"actor"`
	First time.Time      `json:"first"`
	Last  time.Time      `json:"last"`
	Days  map[string]int `json:"days"` // reads by day, of the last usageDays
}

func usagePrefix(orgID, credential string) string { return "usage/" + orgID + "/" + credential + "/" }

// add counts reads and forgets days that are too old.
func (d *usageDoc) add(actor Actor, reads int, first, last time.Time) {
	if d.First.IsZero() || first.Before(d.First) {
		d.First = first
	}
	if last.After(d.Last) {
		d.Last, d.Actor = last, actor
	}
	if d.Days == nil {
		d.Days = map[string]int{}
	}
	d.Days[last.UTC().Format(day)] += reads
	for name := range d.Days {
		if name <= d.Last.AddDate(0, 0, -usageDays).UTC().Format(day) {
			delete(d.Days, name)
		}
	}
}

// since sums the reads of the days after a moment.
func (d usageDoc) since(from time.Time) (reads int) {
	for name, n := range d.Days {
		if name > from.UTC().Format(day) {
			reads += n
		}
	}
	return reads
}

// Consumer is a caller that read a credential in the last 30 days.
type Consumer struct {
	Actor Actor
	Reads int // in the last 30 days
	First time.Time
	Last  time.Time
}

// Usage says who reads a credential.
type Usage struct {
	Credential Credential
	Since      time.Time
	Reads      int
	Consumers  []Consumer // last reader first
}

// Usage returns who read the credential with that ID in the last 30 days, when
// last, and how often, from the same counts as the audit log.
func (v *Vault) Usage(ctx context.Context, c Caller, at Address) (usage Usage, err error) {
	a, cred, err := v.beginByID(ctx, c, ActionUsage, at, true)
	defer func() { err = a.close(ctx, err) }()
	if err != nil {
		return Usage{}, err
	}
	if err := v.reads.settle(ctx, c.Org, cred.ID); err != nil {
		return Usage{}, storageError(err)
	}
	usage = Usage{Credential: cred, Since: v.now().AddDate(0, 0, -usageDays)}
	if usage.Consumers, err = v.consumers(ctx, c.Org, cred.ID, usage.Since); err != nil {
		return Usage{}, err
	}
	for _, consumer := range usage.Consumers {
		usage.Reads += consumer.Reads
	}
	return usage, nil
}

func (v *Vault) consumers(ctx context.Context, org Org, id ID, since time.Time) ([]Consumer, error) {
	var list []Consumer
	err := each(ctx, v.backend, usagePrefix(org.ID, string(id)), func(r backends.Record) error {
		var d usageDoc
		if err := v.decode(ctx, r, &d); err != nil {
			return err
		}
		if d.Last.After(since) {
			list = append(list, Consumer{Actor: d.Actor, Reads: d.since(since), First: d.First, Last: d.Last})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b Consumer) int { return b.Last.Compare(a.Last) })
	return list, err
}

// lastRead returns when a credential was last read, nil when it never was or nobody
// wants to know.
func (v *Vault) lastRead(ctx context.Context, org Org, id ID, wanted bool) (*time.Time, error) {
	if !wanted {
		return nil, nil
	}
	list, err := v.consumers(ctx, org, id, time.Time{})
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0].Last, nil
}

// Impact is whom a deletion concerns.
type Impact struct {
	// Integrations counts the catalog entries that use the credential: its own,
	// and those whose CredentialOf names it.
	Integrations int
	// Consumers counts the callers that read it in the last 30 days.
	Consumers int
}

// assess adds the impact to a removal that is committed. What cannot be counted
// any more must not turn the success into an error; it is counted as before.
func (a *attempt) assess(ctx context.Context, r Removed) (Removed, error) {
	impact, err := a.v.impact(ctx, a.caller.Org, r.Credential)
	if err != nil {
		a.v.log.WarnContext(ctx, "the impact of a deletion could not be counted", "err", err)
	}
	r.Impact = impact
	return r, nil
}

func (v *Vault) impact(ctx context.Context, org Org, cred Credential) (Impact, error) {
	impact := Impact{Integrations: 1}
	all, err := v.catalogOf(ctx, org)
	for _, i := range all {
		if i.CredentialOf == cred.Slot.Integration {
			impact.Integrations++
		}
	}
	if err != nil {
		return impact, err
	}
	if err := v.reads.settle(ctx, org, cred.ID); err != nil {
		return impact, err
	}
	consumers, err := v.consumers(ctx, org, cred.ID, v.now().AddDate(0, 0, -usageDays))
	impact.Consumers = len(consumers)
	return impact, err
}
