// Package session makes and reads the ids of legacy MCP sessions.
//
// A session is stored nowhere: what has to be remembered of it is in its id,
// which the client sends with each request, and a MAC keeps it from being made
// up. So any edge that has the key can serve any request of a session. An id
// proves nothing of who sends it; it is good only beside a credential of the
// principal that it was made for.
package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// Capabilities is a set of things that a client has said it can do.
type Capabilities byte

// What a client can be asked for.
const (
	// ElicitForm is to have the user fill in a form, ElicitURL to send him to a page.
	ElicitForm Capabilities = 1 << iota
	ElicitURL
	// Sample is to ask the model, SampleTools to let it call tools for that, and
	// SampleContext to show it what other servers have said.
	Sample
	SampleTools
	SampleContext
	// Roots is to list the folders that the client works in.
	Roots

	allCapabilities = Roots<<1 - 1
)

// Has reports whether all of want are in the set.
func (c Capabilities) Has(want Capabilities) bool { return c&want == want }

// Session is what an id says.
type Session struct {
	// ID tells sessions apart: 22 characters of the URL-safe Base64 alphabet. It
	// is the part of the whole id that may be shown to others.
	ID           string
	Expires      time.Time
	Version      string
	Capabilities Capabilities
	// Client is what the client calls itself, cut to [MaxClient] bytes. It is not
	// to be believed.
	Client string
}

// Mint makes ids and opens them. It is safe for concurrent use.
type Mint struct {
	keys     [][]byte
	versions []string
}

const (
	prefix   = "s1."
	idSize   = 16
	macSize  = 16
	bodySize = idSize + 8 + 1 + 1 // without the client
	// MaxClient is how many bytes of a client's name an id holds.
	MaxClient = 48
	// MaxLength is longer than any id.
	MaxLength = 128
)

// encoding is strict, so that there is one way to write an id.
var encoding = base64.RawURLEncoding.Strict()

// New returns a mint for sessions of the given protocol versions. The first of
// the keys signs, all verify; a version's place in the list is part of the ids.
func New(keys [][]byte, versions ...string) (*Mint, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key for session ids")
	}
	for _, k := range keys {
		if len(k) < sha256.Size {
			return nil, errors.New("a key for session ids is shorter than 32 bytes")
		}
	}
	if len(versions) == 0 || len(versions) > 256 {
		return nil, errors.New("there have to be 1 to 256 protocol versions")
	}
	return &Mint{keys: keys, versions: versions}, nil
}

// Make returns a new id for the session, good for principal. The session's own
// ID is not looked at. A version that the mint does not know becomes its first.
func (m *Mint) Make(principal string, s Session) string {
	body := make([]byte, bodySize, bodySize+MaxClient+macSize)
	_, _ = rand.Read(body[:idSize]) // never fails: crypto/rand ends the process instead
	binary.BigEndian.PutUint64(body[idSize:], uint64(s.Expires.Unix()))
	for i, v := range m.versions {
		if v == s.Version {
			body[idSize+8] = byte(i)
		}
	}
	body[idSize+9] = byte(s.Capabilities & allCapabilities)
	body = append(body, s.Client[:min(len(s.Client), MaxClient)]...)
	id := encoding.AppendEncode([]byte(prefix), body)
	id = append(id, '.')
	return string(encoding.AppendEncode(id, sum(m.keys[0], body, principal)))
}

// Open returns the session that an id names. It reports false for an id that is
// forged, over, or another principal's, and does not tell which.
func (m *Mint) Open(id, principal string, now time.Time) (Session, bool) {
	rest, ok := strings.CutPrefix(id, prefix)
	if !ok || len(id) > MaxLength {
		return Session{}, false
	}
	first, second, ok := strings.Cut(rest, ".")
	if !ok || len(first) < encoding.EncodedLen(bodySize) ||
		len(first) > encoding.EncodedLen(bodySize+MaxClient) || len(second) != encoding.EncodedLen(macSize) ||
		strings.ContainsAny(rest, "\r\n") { // which the decoder skips
		return Session{}, false
	}
	body, err := encoding.DecodeString(first)
	if err != nil {
		return Session{}, false
	}
	mac, err := encoding.DecodeString(second)
	if err != nil {
		return Session{}, false
	}
	genuine := false
	for _, key := range m.keys {
		genuine = hmac.Equal(mac, sum(key, body, principal)) || genuine
	}
	if !genuine {
		return Session{}, false
	}
	s := Session{
		ID:           encoding.EncodeToString(body[:idSize]),
		Expires:      time.Unix(int64(binary.BigEndian.Uint64(body[idSize:])), 0),
		Capabilities: Capabilities(body[idSize+9]) & allCapabilities,
		Client:       string(body[bodySize:]),
	}
	if version := int(body[idSize+8]); version < len(m.versions) {
		s.Version = m.versions[version]
	}
	return s, s.Version != "" && now.Before(s.Expires)
}

// sum covers the principal too, so that the id does not have to name it.
func sum(key, body []byte, principal string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte{byte(len(body))}) // so that the two cannot run into each other
	mac.Write(body)
	mac.Write([]byte(principal))
	return mac.Sum(nil)[:macSize]
}
