package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
)

// StartCommand opens a session with a server that it starts. ctx bounds the
// opening, not the session, and should have a deadline.
func StartCommand(ctx context.Context, c Command, opts Options) (*Session, error) {
	p, err := startChild(c, opts.Log)
	if err != nil {
		return nil, err
	}
	s := newSession(opts)
	t := &stdioTransport{child: p, max: opts.MaxBytes, waiting: map[string]chan message{}, lost: s.lost, lose: s.lose}
	s.t = t
	if err := s.start(ctx); err != nil {
		s.Close()
		return nil, err
	}
	p.ready.Store(true)
	return s, nil
}

type stdioTransport struct {
	child *child
	max   int
	lost  <-chan struct{}
	lose  func(error)

	writing sync.Mutex
	mu      sync.Mutex
	waiting map[string]chan message // by id; each has room for one
	stopped sync.Once
}

func (*stdioTransport) headers() bool    { return false }
func (*stdioTransport) era(bool, string) {}

// standing implements transport: all comes in the one stream.
func (*stdioTransport) standing(context.Context, func(message) error) error { return errNoStream }

// start implements transport: it reads until the process has ended or says
// something that ends the session.
func (t *stdioTransport) start(_ context.Context, s *Session) {
	s.spawn(func() {
		s.lose(t.read(s))
		// Not before the reader has let go of it: closing does the same.
		t.stop()
	})
}

func (t *stdioTransport) read(s *Session) error {
	r := bufio.NewReaderSize(t.child.out, 64<<10)
	for {
		line, err := readLine(r, t.max)
		if err != nil {
			return fmt.Errorf("the server's process has ended or is not to be read: %w", err)
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		m, err := parse(line)
		if err != nil {
			// Programs print what they should not. It counts as unasked.
			if !s.unasked.Allow() {
				return ErrFlood
			}
			continue
		}
		if !m.isResponse() {
			if err := s.dispatch(m, nil); err != nil {
				return err
			}
			continue
		}
		t.mu.Lock()
		c, known := t.waiting[string(m.ID)]
		delete(t.waiting, string(m.ID))
		t.mu.Unlock()
		if known {
			c <- m
		} else if !s.unasked.Allow() { // late answers to what was cancelled, or worse
			return ErrFlood
		}
	}
}

// exchange implements transport.
func (t *stdioTransport) exchange(ctx context.Context, req outgoing, _ func(message) error) (message, error) {
	answer := make(chan message, 1)
	t.mu.Lock()
	t.waiting[req.id] = answer
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.waiting, req.id)
		t.mu.Unlock()
	}()
	if err := t.send(ctx, req); err != nil {
		return message{}, err
	}
	select {
	case m := <-answer:
		return m, nil
	case <-t.lost:
		return message{}, ErrNoAnswer
	case <-ctx.Done():
		return message{}, ctx.Err()
	}
}

// send implements transport. A message that is not taken in time leaves the
// stream in the middle of a line: that ends the session.
func (t *stdioTransport) send(_ context.Context, msg outgoing) error {
	line := append(msg.body, '\n')
	t.writing.Lock()
	defer t.writing.Unlock()
	select {
	case <-t.lost:
		return ErrNoAnswer
	default:
	}
	if err := t.child.write(line); err != nil {
		err = errors.Join(ErrNoAnswer, err)
		t.lose(err)
		go t.stop() // ends when the process has; close waits for the same
		return err
	}
	return nil
}

func (t *stdioTransport) stop() { t.stopped.Do(t.child.stop) }

// close implements transport.
func (t *stdioTransport) close() { t.stop() }
