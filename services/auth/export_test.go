package auth

import "github.com/sallyport-mcp/sallyport/pkg/bus"

// TakeCatalogue is what happens when the executor publishes tools.
func TakeCatalogue(s *Service, e bus.Entry) { s.onCatalogue(e) }
