package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/sallyport-mcp/sallyport/pkg/identity"
)

// Protocol is what a server speaks besides gRPC on the same port, with clients that
// ask for it by its name in the TLS handshake (ALPN, RFC 7301).
type Protocol struct {
	Name string
	// Allow lists the roles that may speak it; all others are hung up on.
	Allow []string
	// Serve has the connection for itself, and closes it. The server that accepted it
	// does not wait for it when it stops. It may take away a deadline that is set at the
	// beginning, for it sets one itself for the handshake: a timer is of use then.
	Serve func(net.Conn)
}

// polyglot are credentials of a server that speaks more than gRPC.
type polyglot struct {
	credentials.TransportCredentials

	protocols []Protocol
}

// ServerHandshake implements [credentials.TransportCredentials].
func (p polyglot) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := p.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	t, _ := info.(credentials.TLSInfo)
	at := slices.IndexFunc(p.protocols, func(p Protocol) bool { return p.Name == t.State.NegotiatedProtocol })
	if at < 0 {
		return conn, info, nil
	}
	if chains := t.State.VerifiedChains; len(chains) == 0 || !slices.Contains(p.protocols[at].Allow, identity.Of(chains[0][0])) {
		_ = conn.Close() // it was not let in
	} else {
		go p.protocols[at].Serve(conn) // ends with the connection
	}
	return nil, nil, credentials.ErrConnDispatched
}

// Clone implements [credentials.TransportCredentials].
func (p polyglot) Clone() credentials.TransportCredentials {
	return polyglot{p.TransportCredentials.Clone(), p.protocols}
}

// aliveEvery finds out about connections on which nothing is sent and whose other end
// has vanished.
var aliveEvery = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// Dial connects role to a peer at an address, host:port, to speak a [Protocol]. The
// peer's certificate must be for the DNS name that is its role. That the peer does not
// let the role in shows when the connection is read.
func (t TLS) Dial(ctx context.Context, role, peer, address, protocol string) (net.Conn, error) {
	cfg, err := t.client(role, peer)
	if err != nil {
		return nil, err
	}
	cfg.NextProtos = []string{protocol}
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{KeepAliveConfig: aliveEvery}, Config: cfg}).DialContext(ctx, "tcp", address)
	if err != nil {
		if unspoken(err) {
			return nil, fmt.Errorf("%s at %s does not speak %s: %w", peer, address, protocol, err)
		}
		return nil, fmt.Errorf("%s at %s: %w", peer, address, err)
	}
	if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != protocol {
		_ = conn.Close() // of no use
		return nil, fmt.Errorf("%s at %s does not speak %s", peer, address, protocol)
	}
	return conn, nil
}

// unspoken reports whether a peer has refused what it was asked to speak. crypto/tls
// has no type for what a peer says, but for QUIC, where it reads the same.
func unspoken(err error) bool {
	const noApplicationProtocol = tls.AlertError(120)
	said, ok := errors.AsType[*net.OpError](err)
	return ok && said.Op == "remote error" && said.Err.Error() == noApplicationProtocol.Error()
}
