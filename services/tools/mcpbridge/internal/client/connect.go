package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// probeShare of the time there is to connect may go into finding out whether a
// server is modern: old ones may not answer what they do not know.
const probeShare = 4

// spoken are the legacy revisions that a server may choose. What is used of them
// is the same in all.
func spoken() []string { return []string{Legacy, "2025-06-18", "2025-03-26", "2024-11-05"} }

// start settles the era. ctx bounds it, and must have a deadline.
func (s *Session) start(ctx context.Context) error {
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.t.start(background, s)
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.listen(background)
	return nil
}

func (s *Session) settle(ctx context.Context) error {
	if s.opts.Era == "legacy" {
		return s.initialize(ctx)
	}
	probe, cancel := ctx, context.CancelFunc(func() {})
	if end, ok := ctx.Deadline(); ok && s.opts.Era == "auto" {
		probe, cancel = context.WithTimeout(ctx, time.Until(end)/probeShare)
	}
	defer cancel()
	err := s.discover(probe)
	if err == nil || s.opts.Era == "modern" {
		return err
	}
	if !old(err) || ctx.Err() != nil {
		return err
	}
	return s.initialize(ctx)
}

// old reports whether an error may be that of a server that does not know the
// modern era: any answer, or none in time, but not a server that is not there or
// does not let us in.
func old(err error) bool {
	status, isStatus := errors.AsType[*StatusError](err)
	_, isError := errors.AsType[*Error](err)
	return isError || errors.Is(err, errEra) || errors.Is(err, context.DeadlineExceeded) ||
		isStatus && status.Code >= 400 && status.Code < 500 && status.Code != 401 && status.Code != 403 && status.Code != 429
}

var errEra = errors.New("the server does not speak " + Modern)

// identity is what each modern request says of the client.
func (s *Session) identity(capabilities json.RawMessage) map[string]any {
	if len(capabilities) == 0 {
		capabilities = json.RawMessage("{}")
	}
	return map[string]any{
		"io.modelcontextprotocol/protocolVersion":    Modern,
		"io.modelcontextprotocol/clientInfo":         s.info(),
		"io.modelcontextprotocol/clientCapabilities": capabilities,
	}
}

func (s *Session) info() map[string]any {
	version := s.opts.Version
	if version == "" {
		version = "0"
	}
	return map[string]any{"name": "sallyport-mcpbridge", "version": version}
}

func (s *Session) discover(ctx context.Context) error {
	s.modern = true
	s.t.era(true, Modern)
	result, err := s.Do(ctx, &Call{Method: "server/discover"})
	if err == nil {
		var d struct {
			SupportedVersions []string     `json:"supportedVersions"`
			Capabilities      Capabilities `json:"capabilities"`
		}
		if err = json.Unmarshal(result, &d); err == nil && !slices.Contains(d.SupportedVersions, Modern) {
			err = errEra
		}
		if err == nil {
			s.caps = d.Capabilities
			return nil
		}
		err = fmt.Errorf("server/discover: %w", errors.Join(errEra, err))
	}
	s.modern = false
	s.t.era(false, "")
	return err
}

func (s *Session) initialize(ctx context.Context) error {
	params, err := rawParams(map[string]any{
		"protocolVersion": Legacy,
		"clientInfo":      s.info(),
		// Whether a call's client can do these is seen when it is asked.
		"capabilities": map[string]any{
			"elicitation": map[string]any{"form": struct{}{}, "url": struct{}{}},
			"sampling":    struct{}{},
			"roots":       struct{}{},
		},
	})
	if err != nil {
		return err
	}
	result, err := s.Do(ctx, &Call{Method: "initialize", Params: params})
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	var r struct {
		ProtocolVersion string       `json:"protocolVersion"`
		Capabilities    Capabilities `json:"capabilities"`
	}
	if err := json.Unmarshal(result, &r); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	if !slices.Contains(spoken(), r.ProtocolVersion) {
		return errors.New("initialize: the server speaks a revision that is not known here")
	}
	s.caps = r.Capabilities
	s.t.era(false, r.ProtocolVersion)
	if err := s.notify(ctx, "notifications/initialized", nil); err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	return nil
}

func rawParams(m map[string]any) (map[string]json.RawMessage, error) {
	out := make(map[string]json.RawMessage, len(m))
	for k, v := range m {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		out[k] = b
	}
	return out, nil
}
