package keyring

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// Key is a key as it is held in memory. But for its last use it never changes:
// a new revision of the record is a new Key.
type Key struct {
	// Record is not to be changed.
	Record *Record
	// Principal is who holds the key. Not to be changed.
	Principal *authv1.Principal
	// Subject is the principal as policies see it.
	Subject *policy.Subject

	revision   uint64
	generation uint64
	use        *use // shared by all revisions
	peppers    *apikey.Peppers
	noted      [2]atomic.Bool // for the secrets: their new sum is known, see Rehash
}

// use is the last use of a key.
type use struct {
	last  atomic.Pointer[Use]
	dirty atomic.Bool // not stored yet
}

func newKey(r *Record, revision uint64, peppers *apikey.Peppers) *Key {
	roles := slices.Clone(r.Roles)
	slices.Sort(roles)
	p := &authv1.Principal{
		Id:           "key:" + r.ID,
		Owner:        r.Owner,
		Name:         r.Name,
		CredentialId: r.ID,
		Tenant:       r.Tenant,
		Roles:        roles,
	}
	return &Key{Record: r, Principal: p, Subject: policy.NewSubject(p, nil), revision: revision, use: new(use), peppers: peppers}
}

// State tells where the key is in its life.
func (k *Key) State(now time.Time) authv1.KeyState {
	switch {
	case !k.Record.Revoked.IsZero():
		return authv1.KeyState_KEY_STATE_REVOKED
	case !now.Before(k.Record.Expires):
		return authv1.KeyState_KEY_STATE_EXPIRED
	case len(k.Record.Secrets) > 1 && now.Before(k.Record.Secrets[1].Until):
		return authv1.KeyState_KEY_STATE_ROTATING
	}
	return authv1.KeyState_KEY_STATE_ACTIVE
}

// Live reports whether the key is good at all.
func (k *Key) Live(now time.Time) bool {
	s := k.State(now)
	return s == authv1.KeyState_KEY_STATE_ACTIVE || s == authv1.KeyState_KEY_STATE_ROTATING
}

// AllowsAddress reports whether the key may be used from an address. Where
// networks are named an address that cannot be read is in none (fails closed).
func (k *Key) AllowsAddress(address string) bool {
	if len(k.Record.Networks) == 0 {
		return true
	}
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(k.Record.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// AllowsTool reports whether the key's own restriction lets it call a tool.
func (k *Key) AllowsTool(tool string) bool {
	return len(k.Record.Tools) == 0 || slices.Contains(k.Record.Tools, tool)
}

// ToolsOnly reports whether the key is restricted to some tools. It is for no
// resource and no prompt then: when in doubt refuse. It can still see lists.
func (k *Key) ToolsOnly() bool { return len(k.Record.Tools) > 0 }

// Touch notes a use. Uses within a second count as one, so that a busy key
// costs nothing; it is that of a tool, if one of them is.
func (k *Key) Touch(now time.Time, tool, address string) {
	if last := k.use.last.Load(); last != nil && now.Sub(last.Time) < time.Second && (tool == "" || last.Tool != "") {
		return
	}
	k.use.last.Store(&Use{Time: now, Tool: tool, Address: address})
	k.use.dirty.Store(true)
}

// Describe returns what may be known of the key.
func (k *Key) Describe(now time.Time) *authv1.Key {
	r := k.Record
	out := &authv1.Key{
		Id:         r.ID,
		Name:       r.Name,
		Owner:      r.Owner,
		Tenant:     r.Tenant,
		Roles:      k.Principal.GetRoles(),
		State:      k.State(now),
		CreateTime: timestamppb.New(r.Created),
		ExpireTime: timestamppb.New(r.Expires),
		Masked:     apikey.Masked(r.Env, r.ID),
		OldPeppers: k.oldPeppers(now),

		ProofThumbprint: r.ProofKey,
	}
	if !r.Revoked.IsZero() {
		out.RevokeTime = timestamppb.New(r.Revoked)
	}
	if len(r.Tools)+len(r.Networks) > 0 {
		out.Restrictions = &authv1.KeyRestrictions{Tools: r.Tools}
		for _, n := range r.Networks {
			out.Restrictions.Networks = append(out.Restrictions.Networks, n.String())
		}
	}
	if u := k.use.last.Load(); u != nil {
		out.LastUse = &authv1.KeyUse{Time: timestamppb.New(u.Time), Tool: u.Tool, Address: u.Address}
	}
	return out
}
