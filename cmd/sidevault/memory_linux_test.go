package main

import (
	"slices"
	"strings"
	"testing"
)

// What was written to, or can be, is not let go of: it could not be read again.
func TestUnchanged(t *testing.T) {
	const smaps = `00400000-01200000 r-xp 00000000 fe:00 131 /usr/bin/sidevault
Rss:               14336 kB
Private_Clean:     14336 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me lo
01200000-02400000 r--p 00e00000 fe:00 131 /usr/bin/sidevault
Anonymous:             0 kB
Swap:                  0 kB
02400000-02500000 r--p 02000000 fe:00 131 /usr/bin/sidevault
Anonymous:             4 kB
Swap:                  0 kB
02500000-02580000 r--p 02100000 fe:00 131 /usr/bin/sidevault
Anonymous:             0 kB
Swap:                  8 kB
02580000-02600000 rw-p 02180000 fe:00 131 /usr/bin/sidevault
Anonymous:             0 kB
7f0000000000-7f0000100000 r--p 00000000 fe:00 132 /usr/lib/other/usr/bin/sidevault.so
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:          4096 kB
`
	want := []mapping{{0x00400000, 0x01200000}, {0x01200000, 0x02400000}}
	if got := unchanged(strings.NewReader(smaps), "/usr/bin/sidevault"); !slices.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
