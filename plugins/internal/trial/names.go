package trial

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
)

// Resolver returns a resolver for which every name has this IPv4 address.
func Resolver(t *testing.T, address string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	ip := netip.MustParseAddr(address).As4()
	go func() {
		query := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(query)
			if err != nil {
				return
			}
			server.WriteTo(reply(query[:n], ip), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// reply answers a query of one question (RFC 1035, section 4): for A with the address,
// for anything else with nothing.
func reply(query []byte, ip [4]byte) []byte {
	end := 12
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5
	if len(query) < end {
		return nil
	}
	isA := binary.BigEndian.Uint16(query[end-4:]) == 1
	r := append([]byte(nil), query[:end]...)
	binary.BigEndian.PutUint16(r[2:], 0x8180)
	copy(r[4:12], make([]byte, 8))
	r[5] = 1
	if isA {
		r[7] = 1
		r = append(r, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4)
		r = append(r, ip[:]...)
	}
	return r
}
