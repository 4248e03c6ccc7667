package main

import "filippo.io/age"

// identities returns those that open the backup, and those that open the vault in it.
func (b *backupFile) identities(cfg settings) (outer, roots []age.Identity, err error) {
	if roots, err = cfg.rootIdentities(); err != nil || b.outer == "" {
		return roots, roots, err
	}
	p := passphrases{sh: b.sh, fd: noDescriptor}
	outer, err = readIdentity(b.outer, p.prompts(b.outer))
	return append(outer, roots...), roots, err
}

// identityFiles returns the paths of the host's identities.
func identityFiles(cfg settings) []string { return cfg.Identities }
