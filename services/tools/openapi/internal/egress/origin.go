package egress

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Origin is a host as it is listed. Two are the same if they are equal.
type Origin struct {
	Scheme string // https or http
	Host   string // a name in lower case, or an address
	Port   string
}

// String returns what [ParseOrigin] reads.
func (o Origin) String() string {
	host := o.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return o.Scheme + "://" + host + ":" + o.Port
}

// ParseOrigin reads "api.example.com", "api.example.com:8443" or, where it is not
// https, "http://10.0.0.5:8080".
func ParseOrigin(s string) (Origin, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return Origin{}, errors.New("not a host, or a host and a port")
	}
	if u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return Origin{}, errors.New("more than a host and a port")
	}
	return OriginOf(u)
}

var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*$`)

// OriginOf returns the host of a URL. It refuses what programs read in different
// ways: names that look like numbers, names in other scripts (write those with
// xn--), dots at the end, zones.
func OriginOf(u *url.URL) (Origin, error) {
	o := Origin{Scheme: strings.ToLower(u.Scheme), Host: strings.ToLower(u.Hostname()), Port: u.Port()}
	switch {
	case o.Scheme != "https" && o.Scheme != "http":
		return o, fmt.Errorf("%.16q is not https", u.Scheme)
	case u.User != nil:
		return o, errors.New("names a user")
	case strings.HasSuffix(u.Host, ":"):
		return o, errors.New("an empty port")
	}
	if o.Port == "" {
		o.Port = map[string]string{"https": "443", "http": "80"}[o.Scheme]
	}
	if n, err := strconv.ParseUint(o.Port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != o.Port {
		return o, errors.New("no port")
	}
	if a, err := netip.ParseAddr(o.Host); err == nil {
		if a.Zone() != "" {
			return o, errors.New("an address with a zone")
		}
		o.Host = a.String()
		return o, nil
	}
	last := o.Host[strings.LastIndexByte(o.Host, '.')+1:]
	switch {
	case !name.MatchString(o.Host) || len(o.Host) > 253:
		return o, errors.New("not the name of a host in ASCII, nor an address")
	case last[0] >= '0' && last[0] <= '9':
		return o, errors.New("a number in a form that only some programs read as an address")
	}
	return o, nil
}
