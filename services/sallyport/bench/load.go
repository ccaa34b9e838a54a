package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// load is one closed loop: so many clients, each with a connection of its own,
// each sending the next request when it has the answer to the last.
type load struct {
	address  string
	request  request
	clients  int
	requests int // of all clients together
	limit    time.Duration
}

// driven is what a load met with.
type driven struct {
	latencies []time.Duration // sorted
	elapsed   time.Duration
}

// drive carries a load out. Any answer but the right one ends it.
func drive(ctx context.Context, l load) (driven, error) {
	var left atomic.Int64
	left.Store(int64(l.requests))
	g, ctx := errgroup.WithContext(ctx)
	begin := time.Now()
	end := begin.Add(l.limit)
	each := make([][]time.Duration, l.clients)
	for i := range l.clients {
		each[i] = make([]time.Duration, 0, min(l.requests, 1<<16))
		g.Go(func() (err error) {
			each[i], err = loop(ctx, l, &left, end, each[i])
			return err
		})
	}
	err := g.Wait()
	d := driven{latencies: slices.Concat(each...), elapsed: time.Since(begin)}
	slices.Sort(d.latencies)
	if err == nil && len(d.latencies) == 0 {
		err = errors.New("not one request was answered in time")
	}
	return d, err
}

// grace is how long after the limit the last answers may come.
const grace = 10 * time.Second

func loop(ctx context.Context, l load, left *atomic.Int64, end time.Time, out []time.Duration) ([]time.Duration, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", l.address)
	if err != nil {
		return out, err
	}
	defer func() { _ = conn.Close() }() // all answers are here
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(end.Add(grace)); err != nil {
		return out, err
	}
	c := client{conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}
	for left.Add(-1) >= 0 {
		begin := time.Now()
		if begin.After(end) {
			break
		}
		if err := c.call(l.request); err != nil {
			return out, err
		}
		out = append(out, time.Since(begin))
	}
	return out, nil
}

// client is an HTTP/1.1 client that knows only what our servers answer: a status
// line, headers with a content length, a body. It takes so little time that the
// servers have the machine to themselves.
type client struct {
	conn net.Conn
	r    *bufio.Reader
	body []byte
}

var (
	statusOK      = []byte("HTTP/1.1 200 ")
	contentLength = []byte("content-length:")
	isError       = []byte(`"isError":true`)
)

// call sends a request, reads the answer, and checks that it is the right one.
func (c *client) call(r request) error {
	if _, err := c.conn.Write(r.text); err != nil {
		return err
	}
	status, err := c.r.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("read the status: %w", err)
	}
	good := bytes.HasPrefix(status, statusOK)
	first := ""
	if !good {
		first = string(bytes.TrimSpace(status))
	}
	n, err := c.headers()
	if err != nil {
		return err
	}
	c.body = slices.Grow(c.body[:0], n)[:n]
	if _, err := io.ReadFull(c.r, c.body); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	n = bytes.Count(c.body, []byte(r.mark))
	if !good || n == 0 || r.count > 0 && n != r.count || bytes.Contains(c.body, isError) {
		return fmt.Errorf("not the right answer: %s %.2000s", first, c.body)
	}
	return nil
}

// maxBody is far more than any answer here.
const maxBody = 1 << 20

// headers reads up to the empty line and returns the length of the body.
func (c *client) headers() (int, error) {
	length := -1
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("read the headers: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return 0, fmt.Errorf("content-length: %w", err)
			}
		}
	}
	if length < 0 || length > maxBody {
		return 0, fmt.Errorf("the answer has no usable content length (%d)", length)
	}
	return length, nil
}
