// Package release says which version the bundled programs are.
package release

import "runtime/debug"

// Version returns the module's version, which the go command puts into the binary: a
// tag, or a pseudo-version with the commit.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
