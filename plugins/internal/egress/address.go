package egress

import "net/netip"

// reach says how far away an address is.
type reach uint8

const (
	public   reach = iota
	private        // of an organization's own network
	loopback       // of this host
	never          // nothing that a credential should ever be sent to
)

// privateNets are the networks that an operator may allow: RFC 1918, RFC 6598 (behind
// a carrier's NAT) and RFC 4193.
var privateNets = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

// neverNets hold no provider: this network, link-local (where clouds answer with the
// host's own credentials), documentation, benchmarks, multicast, reserved, and what
// wraps another address. They are the entries of IANA's special-purpose registries that
// are not globally reachable, and the metadata services that sit outside of those.
var neverNets = prefixes(
	"0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

var (
	globalIPv6 = netip.MustParsePrefix("2000::/3")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		list[i] = netip.MustParsePrefix(s)
	}
	return list
}

// reachOf classifies an address. What it does not know is never dialled.
func reachOf(a netip.Addr) reach {
	a = a.Unmap()
	switch {
	case a.Zone() != "" || within(neverNets, a):
		return never
	case a.IsLoopback():
		return loopback
	case within(privateNets, a):
		return private
	case nat64.Contains(a):
		return throughNAT64(a)
	case a.Is4(), globalIPv6.Contains(a):
		return public
	}
	return never
}

// throughNAT64 classifies the IPv4 address that a translator would connect to (RFC
// 6052). Hosts without IPv4 reach public ones in this way; nobody has to reach others.
func throughNAT64(a netip.Addr) reach {
	b := a.As16()
	if reachOf(netip.AddrFrom4([4]byte(b[12:]))) != public {
		return never
	}
	return public
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
