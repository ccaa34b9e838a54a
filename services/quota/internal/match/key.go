package match

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ErrAddress is the error for an "ip" that is no address.
var ErrAddress = errors.New("not an IP address")

// v6Prefix is how much of an IPv6 address tells one customer from another: any
// host can take 2^64 addresses of its own.
const v6Prefix = 64

// A Field is one part of what a rule counts by: the value of an attribute.
type Field struct {
	// Attribute is its name.
	Attribute string
	// bits is the length of the IPv6 prefix that counts; 0 takes the value as
	// it is.
	bits int
}

// NewField reads a name such as "user", "ip" or "ip/56". An address is taken
// without its zone and cut to its network: IPv6 to the given prefix or /64,
// IPv4 not at all.
func NewField(text string) (Field, error) {
	name, prefix, cut := strings.Cut(text, "/")
	if name != "ip" {
		if cut {
			return Field{}, errors.New("only ip has a prefix length")
		}
		return Field{Attribute: name}, nil
	}
	if !cut {
		return Field{Attribute: name, bits: v6Prefix}, nil
	}
	bits, err := strconv.ParseUint(prefix, 10, 8)
	if err != nil || bits < 1 || bits > 128 {
		return Field{}, fmt.Errorf("%q: the prefix length must be from 1 to 128", text)
	}
	return Field{Attribute: name, bits: int(bits)}, nil
}

// Append adds the value to a key such that no two lists of values make the same
// key. The error is ErrAddress, or none.
func (f Field) Append(key []byte, value string) ([]byte, error) {
	if f.bits > 0 && value != "" {
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return key, ErrAddress
		}
		return appendNetwork(key, addr, f.bits), nil
	}
	key = binary.AppendUvarint(key, uint64(len(value)))
	return append(key, value...), nil
}

// appendNetwork writes IPv4 in IPv6 as IPv4, lest a caller has two names.
func appendNetwork(key []byte, addr netip.Addr, bits int) []byte {
	addr = addr.Unmap()
	if addr.Is4() {
		b := addr.As4()
		return append(append(key, byte(len(b))), b[:]...)
	}
	b := addr.As16()
	whole := bits / 8
	if rest := bits % 8; rest > 0 {
		b[whole] &= ^byte(0) << (8 - rest)
		whole++
	}
	clear(b[whole:])
	return append(append(key, byte(len(b))), b[:]...)
}
