package quota

import "time"

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
