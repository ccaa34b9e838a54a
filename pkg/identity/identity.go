// Package identity says which role of the system is at the other end of a call.
// Roles are how services know each other: between processes by certificate,
// within one by the connection itself. It knows nothing of people and agents;
// who they are is for auth to say.
package identity

import (
	"context"
	"crypto/x509"
	"net/url"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// URI returns the SPIFFE id that names a role in a certificate.
func URI(trustDomain, role string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/role/" + role}
}

type key struct{}

// With returns a context that says which role calls, for a call that never
// leaves the process.
func With(ctx context.Context, role string) context.Context {
	return context.WithValue(ctx, key{}, role)
}

// Caller returns the role at the other end of the call: what the connection's
// certificate says, or the role that made the call within this process. It
// returns "" if there is none; nobody may be let in then.
func Caller(ctx context.Context) string {
	if role, ok := ctx.Value(key{}).(string); ok {
		return role
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return ""
	}
	return Of(info.State.VerifiedChains[0][0])
}

// Of reads the role from a verified certificate, "" if it names none. A
// certificate with more than one URI is ambiguous and names nobody; DNS names
// and subjects do not count.
func Of(cert *x509.Certificate) string {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "spiffe" {
		return ""
	}
	role, ok := strings.CutPrefix(cert.URIs[0].Path, "/role/")
	if !ok || role == "" || strings.Contains(role, "/") {
		return ""
	}
	return role
}
