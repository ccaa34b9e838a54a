package quota

import (
	"context"
	"log/slog"
	"time"
)

// ReadRules reads the files of rules and takes what is in them at once, rather than
// when they were read twice.
func (s *Service) ReadRules(ctx context.Context) {
	files, err := readRuleFiles(s.rules.cfg.RulesFiles)
	s.reload(ctx, files, filesVersion(files), err)
}

// Problems are those of newer rules.
func (s *Service) Problems() []string {
	s.rules.mu.Lock()
	defer s.rules.mu.Unlock()
	return s.rules.problems
}

// ParseRules reads one file of rules as a process does that has no others.
func ParseRules(text []byte) error {
	cfg := DefaultConfig()
	cfg.RulesFiles = Strings{"rules.yaml"}
	_, err := newRuleSource(cfg, slog.New(slog.DiscardHandler)).compile([]ruleFile{{"rules.yaml", text}})
	return err
}

// Limits is how many limits have a number.
func (s *Service) Limits() int { return len(s.plan.Load().rates) }

// WaitForLedger makes the service wait longer than it is good for callers. Call it
// before KeepLedger.
func (s *Service) WaitForLedger(patience time.Duration) { s.patient = patience }

// SetClock makes the time of day. Call it before anything else.
func (s *Service) SetClock(now func() time.Time) { s.clock = now }

// WritesLedger reports whether this node writes the ledger for all.
func (s *Service) WritesLedger() bool {
	_, elsewhere := s.ledgerKeeper()
	return !elsewhere
}
