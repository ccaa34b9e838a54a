package rpc

import (
	"context"
	"crypto/x509"
	"net/url"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// RoleURI returns the SPIFFE id that names a role in a certificate.
func RoleURI(trustDomain, role string) *url.URL {
	return &url.URL{Scheme: "spiffe", Host: trustDomain, Path: "/role/" + role}
}

type roleKey struct{}

// withRole returns a context that says who calls, for a call that never leaves
// the process.
func withRole(ctx context.Context, role string) context.Context {
	return context.WithValue(ctx, roleKey{}, role)
}

// Caller returns the role at the other end of the call: what the connection's
// certificate says, or the role that made the call within this process. It
// returns "" if there is none; nobody may be let in then.
func Caller(ctx context.Context) string {
	if role, ok := ctx.Value(roleKey{}).(string); ok {
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
	return roleOf(info.State.VerifiedChains[0][0])
}

// roleOf reads the role from a verified certificate. A certificate with more
// than one URI is ambiguous and names nobody; names and subjects do not count.
func roleOf(cert *x509.Certificate) string {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "spiffe" {
		return ""
	}
	role, ok := strings.CutPrefix(cert.URIs[0].Path, "/role/")
	if !ok || role == "" || strings.Contains(role, "/") {
		return ""
	}
	return role
}
