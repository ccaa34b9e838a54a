package edge

// Listening returns how many clients listen for changes.
func (s *Service) Listening() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return len(s.hub.all)
}
