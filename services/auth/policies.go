package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/bundle"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// policyKey is the one entry of the bucket.
const policyKey = "current"

// policies says which set is in use: that of the store while it holds one, else
// that of the files. A set that is not good changes nothing.
//
// It fails closed: until the store has told whether it holds policies, and while
// it holds some that cannot be read, there is none in use, and the scene has no
// set. Later on, what cannot be read or has vanished leaves the old set in use.
type policies struct {
	paths   []string        // configured; none: the default set
	sealers []bundle.Sealer // of whichever the store's are sealed with
	scene   *scene
	log     *slog.Logger
	// changed is called, with the lock held, when a set has taken the place of
	// another.
	changed func(takeover)

	mu     sync.Mutex
	synced bool        // the store has told what it holds
	files  *policy.Set // the last good one
	stored stored
	since  time.Time

	fileProblems  policy.Problems
	storeProblems policy.Problems
	rejected      string // version of the files that fileProblems is about
}

// stored is what the store holds.
type stored struct {
	set    *policy.Set // nil: no policies
	author string
	time   time.Time // zero: it has never held any
	broken bool      // it holds something that cannot be read
}

// takeover is that one set has taken the place of another.
type takeover struct {
	set    *policy.Set
	source authv1.PolicySource
	author string
	first  bool // there was none before
}

// errVanished says that an entry was removed by somebody else than this service,
// which writes that there is none.
var errVanished = errors.New("the entry was removed from the store by somebody else; put or remove policies to settle what holds")

// inUse returns the set that should be, and where it is from.
func (p *policies) inUse() (*policy.Set, authv1.PolicySource) {
	switch {
	case p.stored.set != nil:
		return p.stored.set, authv1.PolicySource_POLICY_SOURCE_STORE
	case len(p.paths) == 0:
		return p.files, authv1.PolicySource_POLICY_SOURCE_DEFAULT
	}
	return p.files, authv1.PolicySource_POLICY_SOURCE_FILES
}

// settle makes what should be in use so. The lock is held.
func (p *policies) settle() {
	old := p.scene.current().set
	if !p.synced || p.stored.broken && old == nil {
		return
	}
	set, source := p.inUse()
	if old != nil && old.Version() == set.Version() {
		return
	}
	p.scene.change(func(b *backdrop) { b.set = set })
	p.since = time.Now()
	p.changed(takeover{set: set, source: source, author: p.stored.author, first: old == nil})
}

// apply takes an entry of the store. What it does not understand leaves things as
// they are.
func (p *policies) apply(value []byte, deleted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if deleted {
		if !p.stored.time.IsZero() {
			p.reject(errVanished)
		}
		p.stored.broken = false // there is nothing that cannot be read
		p.settle()
		return
	}
	next, err := p.read(value)
	if err != nil {
		p.reject(err)
		p.stored.broken = true
		return
	}
	if next.time.Before(p.stored.time) {
		// Sealed by us once, and put back by somebody else.
		p.reject(fmt.Errorf("an entry of %s was put in the place of a newer one", next.time.UTC().Format(time.RFC3339)))
		return
	}
	p.stored, p.storeProblems = next, nil
	p.settle()
}

func (p *policies) read(value []byte) (stored, error) {
	b, err := bundle.Decode(value, p.sealers...)
	if err != nil {
		return stored{}, err
	}
	s := stored{author: b.GetAuthor(), time: b.GetTime().AsTime()}
	if len(b.GetFiles()) > 0 {
		if s.set, err = policy.Load(filesOf(b.GetFiles())); err != nil {
			return stored{}, err
		}
	}
	return s, nil
}

// reject keeps and logs why what the store holds is not used.
func (p *policies) reject(err error) {
	p.storeProblems = problemsOf(err)
	for _, problem := range p.storeProblems {
		p.log.Error("the policies of the store are not good, those in use stay", "problem", problem.String())
	}
}

// sync says that the store has told all that it holds.
func (p *policies) sync() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.synced = true
	p.settle()
}

// reload takes other files, or the error of reading them.
func (p *policies) reload(files []policy.File, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	version := policy.Version(files)
	var set *policy.Set
	switch {
	case err != nil:
		version = err.Error()
	case version == p.files.Version():
		p.fileProblems, p.rejected = nil, ""
		return
	case version != p.rejected:
		set, err = policy.Load(files)
	}
	if version == p.rejected {
		return // known not to be good
	}
	if err != nil {
		p.fileProblems, p.rejected = problemsOf(err), version
		for _, problem := range p.fileProblems {
			p.log.Error("the policies in files are not good, those before stay", "problem", problem.String())
		}
		return
	}
	p.files, p.fileProblems, p.rejected = set, nil, ""
	p.settle()
}

// ready returns an error while no set is in use.
func (p *policies) ready() error {
	if p.scene.current().set != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stored.broken {
		return errors.New("the store holds policies that cannot be read")
	}
	return errors.New("it is not known yet whether the store holds policies")
}

// describe tells what is in use. The error is a fault.
func (p *policies) describe() (*authv1.GetPoliciesResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.synced {
		return nil, notReady()
	}
	resp := &authv1.GetPoliciesResponse{
		Problems: protoProblems(slices.Concat(p.storeProblems, p.fileProblems)),
	}
	set := p.scene.current().set
	if set == nil {
		return resp, nil // the problems say why
	}
	_, resp.Source = p.inUse()
	if resp.GetSource() == authv1.PolicySource_POLICY_SOURCE_STORE {
		resp.Author = clip(p.stored.author, 128)
	}
	resp.Files, resp.Version, resp.Roles = protoFiles(set.Files()), set.Version(), set.Roles()
	resp.LoadTime = timestamppb.New(p.since)
	return resp, nil
}
