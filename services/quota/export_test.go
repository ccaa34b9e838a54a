package quota

import "time"

// SetClock makes the time of day. Call it before anything else.
func (s *Service) SetClock(now func() time.Time) { s.clock = now }
