package keyring

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
)

// recordVersion is the version of the stored form that this code writes, and
// the only one that it reads.
const recordVersion = 1

// recordDomain separates the seals of records from other uses of the pepper.
const recordDomain = "sallyport-key-record-v1"

// thumbprintLen is that of 32 bytes in base64url.
const thumbprintLen = 43

// Record is what the store keeps of a key.
type Record struct {
	ID      string    `json:"id"`
	Env     string    `json:"env"`
	Name    string    `json:"name"`
	Owner   string    `json:"owner,omitempty"`
	Tenant  string    `json:"tenant"`
	Roles   []string  `json:"roles"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	// Revoked is zero while the key is not.
	Revoked time.Time `json:"revoked,omitzero"`
	// Secrets are the hashes of those that are good, newest first.
	Secrets []Secret `json:"secrets"`
	// Tools and Networks restrict the key; empty means no restriction.
	Tools    []string       `json:"tools,omitempty"`
	Networks []netip.Prefix `json:"networks,omitempty"`
	// ProofKey is the thumbprint of the client's key that the API key is bound to
	// (RFC 7638, SHA-256), "" if to none. A process of an earlier version does not know
	// of it, and refuses the key whole.
	ProofKey string `json:"proof_key,omitempty"`

	// Sealed is the id of the pepper that the stored form is sealed with.
	Sealed string `json:"-"`
}

// Secret is what is kept of a secret.
type Secret struct {
	// Pepper is the id of the pepper that Sum was made with.
	Pepper string `json:"pepper"`
	// Sum is the HMAC of the secret.
	Sum []byte `json:"sum"`
	// Until is when the secret ends, if that is before the key does.
	Until time.Time `json:"until,omitzero"`
}

// envelope is the stored form. The seal keeps those who can write to the store
// and do not have the pepper from giving a key more roles or another life.
type envelope struct {
	Version int             `json:"v"`
	Pepper  string          `json:"pepper"`
	Seal    []byte          `json:"seal"`
	Record  json.RawMessage `json:"record"`
}

// Encode returns the stored form of a record, and notes what it is sealed with.
func Encode(r *Record, pepper *apikey.Pepper) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode key record: %w", err)
	}
	seal := pepper.Seal(recordDomain, body)
	text, err := json.Marshal(envelope{Version: recordVersion, Pepper: pepper.ID(), Seal: seal[:], Record: body})
	if err != nil {
		return nil, fmt.Errorf("encode key record: %w", err)
	}
	r.Sealed = pepper.ID()
	return text, nil
}

// Decode reads the stored form, sealed with any of the peppers. It is strict: what
// it does not understand in full is an error, and a key with such a record is not
// good.
func Decode(text []byte, peppers *apikey.Peppers) (*Record, error) {
	var e envelope
	if err := strict(text, &e); err != nil {
		return nil, fmt.Errorf("decode key record: %w", err)
	}
	if e.Version != recordVersion {
		return nil, fmt.Errorf("decode key record: version %d is not known", e.Version)
	}
	pepper := peppers.Find(e.Pepper)
	if pepper == nil {
		return nil, fmt.Errorf("decode key record: made with pepper %q, which is not here", e.Pepper)
	}
	seal := pepper.Seal(recordDomain, e.Record)
	if !hmac.Equal(seal[:], e.Seal) {
		return nil, errors.New("decode key record: the seal is broken, somebody else has written it")
	}
	r := &Record{Sealed: e.Pepper}
	if err := strict(e.Record, r); err != nil {
		return nil, fmt.Errorf("decode key record: %w", err)
	}
	if len(r.ID) == 0 || len(r.Secrets) == 0 || len(r.Secrets) > 2 || r.Expires.IsZero() {
		return nil, errors.New("decode key record: incomplete")
	}
	for _, s := range r.Secrets {
		if len(s.Sum) != sha256.Size {
			return nil, errors.New("decode key record: a sum is not a SHA-256")
		}
	}
	if r.ProofKey != "" && len(r.ProofKey) != thumbprintLen {
		return nil, errors.New("decode key record: proof_key is no thumbprint")
	}
	return r, nil
}

func strict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("trailing bytes")
	}
	return nil
}

// Use is when, for what and from where a key was last used.
type Use struct {
	Time    time.Time `json:"time"`
	Tool    string    `json:"tool,omitempty"`
	Address string    `json:"address,omitempty"`
}
