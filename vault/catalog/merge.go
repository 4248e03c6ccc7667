package catalog

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sidevault/sidevault/vault"
	"github.com/sidevault/sidevault/vault/suggest"
)

// entry is an integration as a file has it, with the places that checks made
// after the merge report.
type entry struct {
	vault.Integration
	at             place // of its key
	credentialOfAt place
	environmentsAt []place // one for each of Environments
	sources        []source
	sheet          int // which of the merged files it stands in
}

// sheet is what one file holds: the entries that have a usable key, and what is
// wrong with it.
type sheet struct {
	entries  []entry
	problems []*Problem
	broken   bool // not read to its end: entries may be missing
}

// merge lays the sheets over each other, the last one uppermost.
func merge(sheets ...sheet) (*Catalog, error) {
	merged := map[string]entry{}
	var found []*Problem
	broken := false
	for i, s := range sheets {
		for _, e := range s.entries {
			e.sheet = i
			merged[e.Key] = e
		}
		for _, p := range s.problems {
			p.sheet = i
			found = append(found, p)
		}
		broken = broken || s.broken
	}
	if !broken {
		found = append(found, checkLinks(merged)...)
		found = append(found, checkGiven(merged)...)
	}
	if err := join(found); err != nil {
		return nil, err
	}
	return build(merged), nil
}

// checkLinks returns what is wrong with the entries' credentialOf, in the order
// of the keys.
func checkLinks(merged map[string]entry) []*Problem {
	var found []*Problem
	keys := slices.Sorted(maps.Keys(merged))
	for _, key := range keys {
		e := merged[key]
		if e.CredentialOf == "" {
			continue
		}
		owner, ok := merged[e.CredentialOf]
		switch {
		case !ok:
			found = append(found, e.badLink(fmt.Sprintf("no integration has the key %s%s",
				quote(e.CredentialOf), suggest.Hint(e.CredentialOf, keys))))
		case e.CredentialOf == e.Key:
			found = append(found, e.badLink("an entry cannot name itself: leave it out"))
		case owner.CredentialOf != "":
			found = append(found, chained(e, owner))
		}
	}
	return found
}

// chained blames the entry that was read last: the other one was right before.
func chained(e, owner entry) *Problem {
	if owner.sheet > e.sheet {
		return owner.badLink(fmt.Sprintf("%s (%s) uses the credential of %s, which must therefore have its own",
			quote(e.Key), e.at, quote(owner.Key)))
	}
	return e.badLink(fmt.Sprintf("%s itself uses the credential of %s: name the one that has its own",
		quote(owner.Key), quote(owner.CredentialOf)))
}

func (e entry) badLink(msg string) *Problem {
	return &Problem{place: e.credentialOfAt, Msg: "credentialOf: " + msg, sheet: e.sheet}
}

func build(merged map[string]entry) *Catalog {
	c := &Catalog{index: make(map[string]int, len(merged)), sources: merged}
	for i, key := range slices.Sorted(maps.Keys(merged)) {
		in := merged[key].Integration
		if owner, ok := merged[in.CredentialOf]; ok {
			in.AuthTypes, in.Fields, in.Environments = owner.AuthTypes, owner.Fields, owner.Environments
		}
		c.all = append(c.all, in)
		c.index[key] = i
	}
	return c
}
