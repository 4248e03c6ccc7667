package seal

import (
	"fmt"
	"strings"
)

// Bech32 (BIP 173) without its limit of 90 characters, as age uses it: a readable
// part, "1", and data of 32 characters that ends with a checksum of 6. age
// decodes and checks it; what follows finds out where a person mistyped, and takes
// the data out of what age has printed.

const bech32Charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"

// bech32Lengths are those of recipients whose kind fixes them. The checksum alone does not
// tell a missing character at the end from a wrong one there.
var bech32Lengths = map[string]int{"age": 62, "age1pq": 1959}

// bech32Fault says what is wrong with a bech32 string, and which character it is
// where that can be known: the checksum finds a single wrong one.
func bech32Fault(s string) string {
	sep := strings.LastIndexByte(s, '1')
	if sep < 1 {
		return `it has no "1" between its kind and its data`
	}
	for i, c := range s {
		switch {
		case i > sep && !strings.ContainsRune(bech32Charset, c):
			return fmt.Sprintf("character %d, %q, is in no recipient", i+1, c)
		case c < 33 || c > 126:
			return fmt.Sprintf("character %d, %q, is in no recipient", i+1, c)
		}
	}
	if len(s)-sep-1 < 6 {
		return fmt.Sprintf("it ends after %d characters: the rest is missing", len(s))
	}
	if known := bech32Lengths[s[:sep]]; known != 0 && len(s) != known {
		return fmt.Sprintf("it has %d characters, and one of its kind has %d: some are missing or too many", len(s), known)
	}
	if bech32Sum(s, sep) == 1 {
		return "its data is not a public key"
	}
	var typos []string
	for _, i := range bech32Typos(s, sep) {
		typos = append(typos, fmt.Sprintf("character %d, %q,", i+1, s[i]))
	}
	if len(typos) > 0 {
		return strings.Join(typos, " or ") + " is wrong"
	}
	return fmt.Sprintf("its checksum does not fit its %d characters: one is missing or too many, or several are wrong", len(s))
}

// bech32Data returns the bytes that a string in lower case stands for, which is well formed.
func bech32Data(s string) []byte {
	data := s[strings.LastIndexByte(s, '1')+1 : len(s)-6]
	bytes := make([]byte, 0, len(data)*5/8)
	bits, n := uint32(0), 0
	for _, c := range []byte(data) {
		bits, n = bits<<5|uint32(strings.IndexByte(bech32Charset, c)), n+5
		if n >= 8 {
			n -= 8
			bytes = append(bytes, byte(bits>>n))
		}
	}
	return bytes
}

// bech32Typos returns the indices of characters whose replacement alone makes the
// checksum fit: one at most, but in a string as long as a hybrid recipient two,
// since the checksum repeats itself after 1023 characters. It is linear: what another
// character changes of it depends on its place alone.
func bech32Typos(s string, sep int) (at []int) {
	want := bech32Sum(s, sep) ^ 1
	var change [32]uint32
	for c := range change {
		change[c] = uint32(c)
	}
	for i := len(s) - 1; i > sep; i-- {
		for c := range change {
			if c != 0 && change[c] == want {
				at = append([]int{i}, at...)
			}
			change[c] = bech32Step(change[c], 0)
		}
	}
	return at
}

func bech32Sum(s string, sep int) uint32 {
	sum := uint32(1)
	for _, c := range []byte(s[:sep]) {
		sum = bech32Step(sum, uint32(c>>5))
	}
	sum = bech32Step(sum, 0)
	for _, c := range []byte(s[:sep]) {
		sum = bech32Step(sum, uint32(c&31))
	}
	for _, c := range []byte(s[sep+1:]) {
		sum = bech32Step(sum, uint32(strings.IndexByte(bech32Charset, c)))
	}
	return sum
}

func bech32Step(sum, value uint32) uint32 {
	top := sum >> 25
	sum = (sum&0x1ffffff)<<5 ^ value
	for i, g := range [...]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
		if top>>i&1 == 1 {
			sum ^= g
		}
	}
	return sum
}
