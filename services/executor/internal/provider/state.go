package provider

import (
	"crypto/sha256"
	"errors"
)

// ReplicaID is a replica as a wrapped state names it: the same on all executors.
type ReplicaID [16]byte

// NewReplicaID returns the id of the replica that joined under a key.
func NewReplicaID(key string) ReplicaID {
	sum := sha256.Sum256([]byte(key))
	return ReplicaID(sum[:16])
}

// MaxState bounds a provider's own state: with its wrapping it must fit into the
// same field.
const MaxState = 65536 - wrapping

const (
	stateVersion = 1
	wrapping     = 1 + len(ReplicaID{})
)

// ErrState says that a state is not one that an executor has wrapped.
var ErrState = errors.New("not a state that was given out")

// WrapState puts the replica that gave a state before it, so that the client's
// answer finds its way back. It has no seal: that is the edge's, which lets no
// state out or in without.
func WrapState(id ReplicaID, state []byte) []byte {
	out := make([]byte, 0, wrapping+len(state))
	out = append(out, stateVersion)
	out = append(out, id[:]...)
	return append(out, state...)
}

// UnwrapState undoes [WrapState].
func UnwrapState(wrapped []byte) (ReplicaID, []byte, error) {
	// A state that is empty is not wrapped.
	if len(wrapped) <= wrapping || len(wrapped) > wrapping+MaxState || wrapped[0] != stateVersion {
		return ReplicaID{}, nil, ErrState
	}
	return ReplicaID(wrapped[1:wrapping]), wrapped[wrapping:], nil
}
