package main

import "filippo.io/age"

// identities returns those that open the backup, and those that open the vault in it.
func (b *backupFile) identities(cfg settings) (outer, roots []age.Identity, err error) {
	if roots, err = readIdentity(cfg.Identity); err != nil || b.outer == "" {
		return roots, roots, err
	}
	outer, err = readIdentity(b.outer)
	return append(outer, roots...), roots, err
}

// identityFiles returns the paths of the host's identities.
func identityFiles(cfg settings) []string { return []string{cfg.Identity} }
