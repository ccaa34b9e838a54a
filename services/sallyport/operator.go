package main

import (
	"context"
	"errors"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	"github.com/sallyport-mcp/sallyport/pkg/rpc"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
)

// operatorRole is the role that the program has in certificates.
const operatorRole = "sallyport"

// operator finds the system that a command is about: the one that a
// configuration file describes, or a running `sallyport dev`.
type operator struct {
	state  string
	config string
}

// stateDir returns the state folder that flags, environment or file name.
func (o *operator) stateDir() (string, error) {
	dir := o.state
	if dir == "" && o.config != "" {
		cfg, err := app.Load(o.config)
		if err != nil {
			return "", &exitError{exitUsage, err}
		}
		return cfg.StateDir, nil
	}
	if dir == "" {
		dir = app.DefaultConfig().StateDir
	}
	return filepath.Abs(dir)
}

// instance returns the running `sallyport dev`.
func (o *operator) instance() (instance.Instance, error) {
	dir, err := o.stateDir()
	if err != nil {
		return instance.Instance{}, err
	}
	i, err := instance.Find(dir)
	if errors.Is(err, instance.ErrNone) {
		return i, &exitError{exitUnreachable, err}
	}
	if err != nil {
		return i, failed(err)
	}
	return i, nil
}

// dial returns a connection to a role, as the operator.
func (o *operator) dial(role string) (*grpc.ClientConn, error) {
	id, target := rpc.TLS{}, ""
	if o.config != "" {
		cfg, err := app.Load(o.config)
		if err != nil {
			return nil, &exitError{exitUsage, err}
		}
		id, target = cfg.TLS, cfg.Peers[role]
		if target == "" && cfg.TLS.Enabled() {
			return nil, usage("%s has no peers.%s: say where it is", o.config, role)
		}
	}
	if target == "" {
		i, err := o.instance()
		if err != nil {
			return nil, err
		}
		id, target = devca.Files(certsDir(i.StateDir)), i.Peers[role]
	}
	creds, err := id.Client(operatorRole, role)
	if err != nil {
		return nil, failed(err)
	}
	conn, err := rpc.Dial(target, nil, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, failed(err)
	}
	return conn, nil
}

func certsDir(state string) string { return filepath.Join(state, "certs") }

// rpcError gives an error of a call its exit code.
func rpcError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	switch status.Code(err) {
	case codes.Canceled:
		return nil
	case codes.PermissionDenied, codes.Unauthenticated:
		return &exitError{exitForbidden, plain(err)}
	case codes.Unavailable, codes.DeadlineExceeded:
		return &exitError{exitUnreachable, plain(err)}
	}
	return failed(plain(err))
}

// plain is an error without the words gRPC puts before it.
func plain(err error) error {
	if s, ok := status.FromError(err); ok {
		return errors.New(s.Message())
	}
	return err
}
