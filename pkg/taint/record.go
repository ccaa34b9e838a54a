package taint

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// What the contract has room for.
const (
	maxLabels    = 64
	maxElsewhere = 8
	maxUntrusted = 4096
	maxKnown     = 1024
	hashSize     = 8
)

// Grain is how exactly the times of labels are kept: what is seen again within it
// changes nothing, so that steady work is not written down each time.
const Grain = time.Minute

// Name returns where the record of a context is kept. Only a context that the client
// has named, or its session, is one of its own. A trace is often as short as one call,
// and the client's name is no context, so these share that of the principal.
func Name(principal string, o *authv1.Origin) string {
	switch o.GetContextSource() {
	case authv1.ContextSource_CONTEXT_SOURCE_EXPLICIT:
		return name(principal, "explicit", o.GetContextId())
	case authv1.ContextSource_CONTEXT_SOURCE_SESSION:
		return name(principal, "session", o.GetContextId())
	}
	return OfPrincipal(principal)
}

// OfPrincipal returns where the record of a principal is kept.
func OfPrincipal(principal string) string { return name(principal, "principal", "") }

func name(parts ...string) string {
	var room [256]byte
	b := append(room[:0], "sallyport-context-v1"...)
	for _, part := range parts {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(b)
	return string(hex.AppendEncode(room[:0], sum[:]))
}

// NewLabel returns the label of what a tool gives. What it does not say is taken to be
// untrusted and internal.
func NewLabel(source, tenant string, o *toolv1.Tool, now time.Time) *toolv1.Label {
	l := &toolv1.Label{Source: source, Tenant: tenant, Trust: o.GetTrust(), Sensitivity: o.GetSensitivity(), Time: timestamppb.New(now.Truncate(time.Second))}
	switch l.GetTrust() {
	case toolv1.Trust_TRUST_TRUSTED, toolv1.Trust_TRUST_INTERNAL:
	default:
		l.Trust = toolv1.Trust_TRUST_UNTRUSTED
	}
	switch l.GetSensitivity() {
	case toolv1.Sensitivity_SENSITIVITY_PUBLIC, toolv1.Sensitivity_SENSITIVITY_INTERNAL, toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL:
	case toolv1.Sensitivity_SENSITIVITY_UNSPECIFIED:
		l.Sensitivity = toolv1.Sensitivity_SENSITIVITY_INTERNAL
	default:
		l.Sensitivity = toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL
	}
	return l
}

// Untrusted reports whether nobody vouches for what bears the label.
func Untrusted(l *toolv1.Label) bool {
	return l.GetTrust() != toolv1.Trust_TRUST_TRUSTED && l.GetTrust() != toolv1.Trust_TRUST_INTERNAL
}

// Matters reports whether a context has to remember the label. What is trusted and not
// confidential forbids nothing to anybody, and to write it down would cost each task
// some milliseconds.
func Matters(l *toolv1.Label) bool {
	return l.GetTrust() != toolv1.Trust_TRUST_TRUSTED || l.GetSensitivity() == toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL
}

// Record is what a context has seen. It only grows. It is not safe for concurrent use.
type Record struct {
	secret     []byte
	labels     []*toolv1.Label
	elsewhere  []*toolv1.Label
	untrusted  map[uint64]struct{}
	known      map[uint64]struct{}
	moreLabels bool
	moreValues bool
}

// NewRecord returns the record of a context that has seen nothing.
func NewRecord() *Record {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process instead
	return &Record{secret: secret, untrusted: make(map[uint64]struct{}), known: make(map[uint64]struct{})}
}

// Suspect returns a record that stands for one which cannot be read: the context may
// have seen everything.
func Suspect() *Record {
	r := NewRecord()
	r.moreLabels, r.moreValues = true, true
	return r
}

// errRecord says that a record breaks its contract.
var errRecord = errors.New("taint: not a record of a context")

// decode reads a record as it is at some time.
func decode(plain []byte, now time.Time) (*Record, error) {
	m := new(executorv1.ContextRecord)
	if err := proto.Unmarshal(plain, m); err != nil {
		return nil, errRecord
	}
	r := NewRecord()
	r.secret, r.labels, r.elsewhere = m.GetSecret(), m.GetLabels(), m.GetElsewhere()
	r.moreLabels, r.moreValues = m.GetMoreLabels(), m.GetMoreValues()
	if len(r.secret) != sha256.Size || len(r.labels) > maxLabels || len(r.elsewhere) > maxElsewhere ||
		!unpack(m.GetUntrusted(), maxUntrusted, r.untrusted) || !unpack(m.GetKnown(), maxKnown, r.known) {
		return nil, errRecord
	}
	r.forget(now)
	return r, nil
}

// forget drops what has not been seen for as long as a record is kept. Values go with
// the last untrusted label: they do not say of what they are.
func (r *Record) forget(now time.Time) {
	old := func(l *toolv1.Label) bool { return now.Sub(l.GetTime().AsTime()) > bus.ContextLife+bus.ClockSkew }
	before := len(r.labels)
	r.labels, r.elsewhere = slices.DeleteFunc(r.labels, old), slices.DeleteFunc(r.elsewhere, old)
	if len(r.labels) < before && !slices.ContainsFunc(r.labels, Untrusted) && !r.moreLabels {
		r.moreValues = false
		clear(r.untrusted)
	}
}

// Adopt takes over which values were known, from what was kept of the same context in
// memory.
func (r *Record) Adopt(old *Record) {
	if old == nil || !bytes.Equal(r.secret, old.secret) {
		return
	}
	for h := range old.known {
		if _, bad := r.untrusted[h]; !bad && len(r.known) < maxKnown {
			r.known[h] = struct{}{}
		}
	}
}

func (r *Record) encode() ([]byte, error) {
	raw, err := proto.Marshal(&executorv1.ContextRecord{
		Secret: r.secret, Labels: r.labels, Elsewhere: r.elsewhere, Untrusted: pack(r.untrusted), Known: pack(r.known),
		MoreLabels: r.moreLabels, MoreValues: r.moreValues,
	})
	if err != nil {
		return nil, fmt.Errorf("write the record of a context: %w", err)
	}
	return raw, nil
}

func pack(set map[uint64]struct{}) []byte {
	b := make([]byte, 0, hashSize*len(set))
	for _, h := range slices.Sorted(maps.Keys(set)) {
		b = binary.BigEndian.AppendUint64(b, h)
	}
	return b
}

func unpack(b []byte, most int, set map[uint64]struct{}) bool {
	if len(b)%hashSize != 0 || len(b) > hashSize*most {
		return false
	}
	for ; len(b) > 0; b = b[hashSize:] {
		set[binary.BigEndian.Uint64(b)] = struct{}{}
	}
	return true
}

// hash makes of a value what can be kept. The secret comes first and the hash is cut,
// so this is a keyed hash.
func hash[T string | []byte](r *Record, value T) uint64 {
	var room [160]byte
	sum := sha256.Sum256(append(append(room[:0], r.secret...), value...))
	return binary.BigEndian.Uint64(sum[:])
}

// See notes that the context has seen something, and reports whether that is news.
func (r *Record) See(l *toolv1.Label) bool {
	if i := find(r.labels, l); i >= 0 {
		if l.GetTime().AsTime().Sub(r.labels[i].GetTime().AsTime()) < Grain {
			return false
		}
		r.labels[i] = l
		return true
	}
	if len(r.labels) == maxLabels {
		news := !r.moreLabels
		r.moreLabels = true
		return news
	}
	r.labels = append(r.labels, l)
	return true
}

// SeeElsewhere notes, for a principal, that another context of his has seen something
// untrusted, and reports whether that is news.
func (r *Record) SeeElsewhere(l *toolv1.Label) bool {
	if i := find(r.elsewhere, l); i >= 0 {
		if l.GetTime().AsTime().Sub(r.elsewhere[i].GetTime().AsTime()) < Grain {
			return false
		}
		r.elsewhere = slices.Delete(r.elsewhere, i, i+1)
	}
	if len(r.elsewhere) == maxElsewhere {
		r.elsewhere = slices.Delete(r.elsewhere, 0, 1) // what follows is newer
	}
	r.elsewhere = append(r.elsewhere, l)
	return true
}

func find(all []*toolv1.Label, l *toolv1.Label) int {
	return slices.IndexFunc(all, func(have *toolv1.Label) bool {
		return have.GetSource() == l.GetSource() && have.GetTrust() == l.GetTrust() &&
			have.GetSensitivity() == l.GetSensitivity() && have.GetTenant() == l.GetTenant()
	})
}

// Know notes a value that the caller, or content that can be trusted, has named. It
// stays suspect if it came from untrusted content before.
func (r *Record) Know(value string) {
	h := hash(r, value)
	if _, bad := r.untrusted[h]; !bad && len(r.known) < maxKnown {
		r.known[h] = struct{}{}
	}
}

// Distrust notes a value in untrusted content, unless it was known before, and reports
// whether that is news.
func (r *Record) Distrust(value string) bool {
	h := hash(r, value)
	if _, known := r.known[h]; known || r.moreValues {
		return false
	}
	if _, have := r.untrusted[h]; have {
		return false
	}
	if len(r.untrusted) == maxUntrusted {
		r.moreValues = true
		return true
	}
	r.untrusted[h] = struct{}{}
	return true
}

// DistrustAll notes that any value may be from untrusted content, and reports whether
// that is news.
func (r *Record) DistrustAll() bool {
	news := !r.moreValues
	r.moreValues = true
	return news
}

// Doubts reports whether any value can be suspect.
func (r *Record) Doubts() bool { return r.moreValues || len(r.untrusted) > 0 }

// Suspects returns the names of the arguments of a call, a JSON object, that hold a
// value which first came from untrusted content, sorted. Arguments that cannot be
// looked into are an error.
func (r *Record) Suspects(arguments []byte) ([]string, error) {
	if r.moreValues {
		return ArgumentNames(arguments)
	}
	suspect := make(map[string]bool)
	err := new(Finder).Arguments(arguments, func(name string, value []byte) bool {
		if _, bad := r.untrusted[hash(r, value)]; bad {
			suspect[name] = true
		}
		return true
	})
	return slices.Sorted(maps.Keys(suspect)), err
}

// Labels returns what the context has seen, as written.
func (r *Record) Labels() []*toolv1.Label {
	all := slices.Clone(r.labels)
	if r.moreLabels {
		all = append(all, &toolv1.Label{
			Source: "unknown", Trust: toolv1.Trust_TRUST_UNTRUSTED, Sensitivity: toolv1.Sensitivity_SENSITIVITY_CONFIDENTIAL, Tenant: "unknown",
		})
	}
	return all
}

// Elsewhere returns the untrusted that other contexts of the principal have seen since
// a time.
func (r *Record) Elsewhere(since time.Time) []*toolv1.Label {
	if r.moreLabels {
		return r.Labels()
	}
	return slices.DeleteFunc(slices.Clone(r.elsewhere), func(l *toolv1.Label) bool { return l.GetTime().AsTime().Before(since) })
}
