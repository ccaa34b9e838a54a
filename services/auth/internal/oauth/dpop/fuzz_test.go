package dpop_test

import (
	"testing"
	"time"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/dpop"
)

func FuzzCheck(f *testing.F) {
	f.Add("e30.e30.e30", "https://gate.example.com/mcp")
	f.Add("eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2In0.e30.AA", "http://[::1]:80")
	f.Fuzz(func(t *testing.T, proof, address string) {
		if p, err := dpop.Check(proof, dpop.Request{Method: "POST", URI: address, Token: "t"}, time.Now(), time.Minute, 0); err == nil && p.Thumbprint == "" {
			t.Errorf("got %+v", p)
		}
	})
}
