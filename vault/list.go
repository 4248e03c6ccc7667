package vault

import (
	"context"

	"github.com/sidevault/sidevault/backends"
	"github.com/sidevault/sidevault/envs"
)

// Filter selects credentials. Zero fields select all.
type Filter struct {
	Integration string
	Scope       *envs.Scope
	Name        string
	Status      Status
	Usage       bool // find out when each was last read, too; takes an admin
}

// listScan bounds how many credentials one call looks through; a page that comes
// back short then carries on with the next cursor.
const listScan = 5 * backends.MaxPage

// List returns active, inactive and expired credentials that the caller's grant
// covers, in a fixed order, after the one where a previous page ended ("" for the
// first), and where this one ends ("" when there are no more). What exists
// throughout is in the pages once, whatever is created and deleted meanwhile.
func (v *Vault) List(ctx context.Context, c Caller, f Filter, after string, limit int) (list []Credential, next string, err error) {
	a := v.begin(c, ActionList, Slot{Integration: f.Integration})
	defer func() { err = a.close(ctx, err) }()
	if err := a.filters(f); err != nil {
		return nil, "", err
	}
	if f.Usage {
		if err := v.reads.flush(ctx); err != nil {
			return nil, "", storageError(err)
		}
	}
	prefix := livePrefix(c.Org)
	if f.Integration != "" {
		if prefix += f.Integration + "/"; f.Scope != nil {
			prefix += segment(*f.Scope) + "/"
		}
	}
	from := ""
	if after != "" {
		from = livePrefix(c.Org) + after
	}
	size := min(limit+1, backends.MaxPage) // with one more, which says whether there is a next page
	for scanned := 0; scanned < listScan; {
		page, err := v.backend.List(ctx, prefix, from, size)
		if err != nil {
			return nil, "", storageError(err)
		}
		for _, r := range page {
			var d credentialDoc
			if err := v.decode(ctx, r, &d); err != nil {
				return nil, "", err
			}
			if cred := d.credential(r.Revision); v.selects(c, f, cred) {
				if len(list) == limit {
					return list, from[len(livePrefix(c.Org)):], nil
				}
				if cred.LastRead, err = v.lastRead(ctx, c.Org, cred.ID, f.Usage); err != nil {
					return nil, "", err
				}
				list = append(list, cred)
			}
			from = r.Key
		}
		if scanned += len(page); len(page) < size {
			return list, "", nil
		}
	}
	return list, from[len(livePrefix(c.Org)):], nil
}

// filters refuses to select by what the caller's grant does not cover.
func (a *attempt) filters(f Filter) error {
	if f.Usage {
		if err := a.admin(); err != nil {
			return err
		}
	}
	if f.Integration != "" && !a.caller.usesIntegration(f.Integration) {
		return a.grant(Slot{Integration: f.Integration}, true)
	}
	if f.Scope == nil {
		return nil
	}
	a.entry.Environment = f.Scope.Ptr()
	if !a.caller.mayRead(a.v.envs, *f.Scope) {
		return a.outside(*f.Scope)
	}
	return nil
}

// IsCursor reports whether List could have returned it as the place where a page
// ended, or it is "".
func IsCursor(s string) bool {
	if s == "" {
		return true
	}
	slot, ok := parsePath(s)
	return ok && isIntegrationKey(slot.Integration) && slot.path() == s && len(slot.Name) <= MaxName && len(slot.Scope) <= 63
}

func (v *Vault) selects(c Caller, f Filter, cred Credential) bool {
	return c.usesIntegration(cred.Slot.Integration) && c.mayRead(v.envs, cred.Slot.Scope) &&
		(f.Scope == nil || *f.Scope == cred.Slot.Scope) &&
		(f.Name == "" || f.Name == cred.Slot.Name) &&
		(f.Status == "" || f.Status == cred.StatusAt(v.now()))
}
