package quota

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"sync"
	"time"
)

// rulesInterval is how often files of rules are read.
const rulesInterval = time.Second

// maxProblems is how many problems are kept: as many as ExplainRules can tell.
const maxProblems = 256

// ruleSource knows where rules come from, and what is wrong with those that do not
// hold. Rules that are not good change nothing: those before stay in use.
type ruleSource struct {
	cfg Config
	log *slog.Logger
	// changing is held while rules take the place of others.
	changing sync.Mutex

	mu       sync.Mutex
	since    time.Time // when those in use were taken
	read     string    // version of the files that were taken or found not to be good last
	problems []string  // of these; empty if they are in use
}

func newRuleSource(cfg Config, log *slog.Logger) *ruleSource {
	return &ruleSource{cfg: cfg, log: log, since: time.Now()}
}

// first reads the rules that a process starts with. It fails if they are not good.
func (s *ruleSource) first() (*plan, error) {
	files, err := readRuleFiles(s.cfg.RulesFiles)
	if err != nil {
		return nil, err
	}
	p, err := s.compile(files)
	if err != nil {
		return nil, err
	}
	s.read = filesVersion(files)
	s.warn(p)
	return p, nil
}

// compile makes a plan of the rules in files, or of those in the configuration
// if it names no files.
func (s *ruleSource) compile(files []ruleFile) (*plan, error) {
	if len(s.cfg.RulesFiles) == 0 {
		return compile(s.cfg)
	}
	cfg, places, err := parseRules(s.cfg, files)
	if err != nil {
		return nil, err
	}
	p, err := compile(cfg)
	if err != nil {
		return nil, places.locate(err)
	}
	for i := range p.warnings {
		p.warnings[i].path = places.of(p.warnings[i].path)
	}
	return p, nil
}

func (s *ruleSource) warn(p *plan) {
	for _, w := range p.warnings {
		s.log.Warn("a quota rule may surprise", "rule", w.rule, "at", w.path, "why", w.text)
	}
}

// wrong is how many problems there are.
func (s *ruleSource) wrong() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.problems)
}

// settled notes what became of the files of a version.
func (s *ruleSource) settled(version string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read, s.problems = version, problemsOf(err)
	if err == nil {
		s.since = time.Now()
	}
}

// known reports whether the files of a version were looked at already.
func (s *ruleSource) known(version string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read == version
}

// followRules looks again and again whether the files of rules have changed,
// until ctx is done. Contents count and not times or events: a ConfigMap changes by
// one symbolic link, and files on a network have no events.
//
// What has changed is taken when it was read twice, an interval apart, and was the
// same. So nothing is taken that was read while a link moved from one folder to
// another, and hardly ever a file that somebody is still writing.
func (s *Service) followRules(ctx context.Context) {
	if len(s.rules.cfg.RulesFiles) == 0 {
		return
	}
	tick := time.NewTicker(rulesInterval)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		files, err := readRuleFiles(s.rules.cfg.RulesFiles)
		version := filesVersion(files)
		if err != nil {
			version = err.Error()
		}
		if version == last && !s.rules.known(version) {
			s.reload(ctx, files, version, err)
		}
		last = version
	}
}

// reload takes the rules in files, or the error of reading them. It takes all of
// them or none.
func (s *Service) reload(ctx context.Context, files []ruleFile, version string, err error) {
	s.rules.changing.Lock()
	defer s.rules.changing.Unlock()
	var next *plan
	if err == nil {
		next, err = s.rules.compile(files)
	}
	if err == nil {
		err = next.follow(s.plan.Load(), s.now())
	}
	if err == nil {
		s.use(next)
	}
	s.rules.settled(version, err)
	for _, problem := range problemsOf(err) {
		s.rules.log.Error("the quota rules in files are not good, those before stay", "problem", problem)
	}
	if err == nil {
		s.metrics.changes.Add(ctx, 1)
		s.rules.log.Info("other quota rules hold now", "version", next.version, "rules", len(next.ids))
		s.rules.warn(next)
	}
}

// use makes the rules of a plan hold, in steps of which each leaves all checks that
// are under way right: first all limits exist that the plan before or this one names,
// those of both already as they are to be; then checks read this plan. A check
// reads one plan from its beginning to its end.
func (s *Service) use(next *plan) {
	defer s.otherRules.tell() // leases by those before end
	s.lending.Lock()
	defer s.lending.Unlock()
	next.number = s.plan.Load().number + 1
	next.refused = s.metrics.checks.of(next.ids)
	s.limiter.Change(s.now(), next.rateSpecs)
	s.permits.Change(next.permitSpecs)
	if s.cluster != nil {
		s.fast.Change(s.now(), next.rateSpecs)
		s.cluster.Renamed()
	}
	s.plan.Store(next)
}

// versionOf is a hash of all that rules say.
func versionOf(cfg Config) string {
	text, err := json.Marshal(struct {
		Rules      []Rule
		Attributes []string
	}{cfg.Rules, cfg.Attributes})
	if err != nil { // there is nothing in it that JSON does not have
		text = []byte(err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
