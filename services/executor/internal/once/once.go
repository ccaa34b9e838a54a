// Package once lets a call that bears an idempotency key be made once, whichever
// executor it comes to, and whatever dies meanwhile.
//
// Before a call is made its entry in the bucket is created, which succeeds once.
// When it has ended the result is written there, encrypted. An entry without a
// result is a call that goes on, or one of which nobody knows how it ended: it is
// never made again.
package once

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// Bucket is where all executors note such calls; [bus.Bus] is it.
type Bucket interface {
	Get(ctx context.Context, bucket bus.Bucket, key string) (bus.Entry, error)
	Create(ctx context.Context, bucket bus.Bucket, key string, value []byte) (uint64, error)
	Update(ctx context.Context, bucket bus.Bucket, key string, value []byte, revision uint64) (uint64, error)
	Delete(ctx context.Context, bucket bus.Bucket, key string) error
}

// Why a call is not made.
var (
	// ErrOther says that the key was used with other arguments.
	ErrOther = errors.New("the idempotency key was used with other arguments")
	// ErrRunning says that the first call goes on.
	ErrRunning = errors.New("the first call goes on")
	// ErrDoubt says that nobody knows how the first call ended.
	ErrDoubt = errors.New("nobody knows how the first call ended")
	// ErrForgotten says that the first call has ended, and what came of it is not
	// known any more.
	ErrForgotten = errors.New("the result of the first call is not kept")
)

// maxResult is how much of a result is kept, in bytes.
const maxResult = 256 << 10

// Call is a call with an idempotency key.
type Call struct {
	Principal, Tool, Key string
	Arguments            [sha256.Size]byte
	// Decision is the id of the decision that allows it.
	Decision string
	// Timeout is how long it may take.
	Timeout time.Duration
	// Continues says that it goes on with a call that has asked the client.
	Continues bool
}

// entry is the name of the call in the bucket.
func (c *Call) entry() string {
	h := sha256.New()
	for _, part := range [...]string{"sallyport-call-v1", c.Principal, c.Tool, c.Key} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part))) // a hash takes everything
		_, _ = h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Book knows the calls. It is safe for concurrent use.
type Book struct {
	bucket Bucket
	keys   Keys
}

// NewBook returns the book in a bucket, whose results are encrypted with keys.
func NewBook(bucket Bucket, keys Keys) *Book { return &Book{bucket, keys} }

// Claim is the right to make a call.
type Claim struct {
	book     *Book
	name     string
	record   *executorv1.OnceRecord
	revision uint64
}

// Claim returns the right to make the call, or the result of the first, if it was
// made before: its Repeats says by which decision. Any error that is not one of
// this package means that it cannot be told; the call must not be made.
func (b *Book) Claim(ctx context.Context, c *Call) (*Claim, *executorv1.Result, error) {
	now := time.Now()
	claim := &Claim{book: b, name: c.entry(), record: &executorv1.OnceRecord{
		ArgumentsSha256: c.Arguments[:], DecisionId: c.Decision,
		StartTime: timestamppb.New(now), Deadline: timestamppb.New(now.Add(c.Timeout + bus.ClockSkew)),
	}}
	raw, err := proto.Marshal(claim.record)
	if err != nil {
		return nil, nil, err
	}
	if !c.Continues {
		claim.revision, err = b.bucket.Create(ctx, bus.Calls, claim.name, raw)
		if err == nil {
			return claim, nil, nil
		}
		if !errors.Is(err, bus.ErrExists) {
			return nil, nil, err
		}
	}
	e, err := b.bucket.Get(ctx, bus.Calls, claim.name)
	if errors.Is(err, bus.ErrNotFound) { // it was given back, or its day is over
		return nil, nil, ErrRunning
	}
	if err != nil {
		return nil, nil, err
	}
	first := new(executorv1.OnceRecord)
	if err := proto.Unmarshal(e.Value, first); err != nil {
		return nil, nil, fmt.Errorf("read the first call: %w", err)
	}
	switch {
	case !bytes.Equal(first.GetArgumentsSha256(), c.Arguments[:]):
		return nil, nil, ErrOther
	case first.GetEnded():
		result, err := b.open(claim.name, first)
		return nil, result, err
	case !c.Continues && now.Before(first.GetDeadline().AsTime()):
		return nil, nil, ErrRunning
	case !c.Continues:
		return nil, nil, ErrDoubt
	}
	// The client has answered. Of two that go on with one call, one gets this.
	first.Deadline = claim.record.GetDeadline()
	claim.record = first
	if raw, err = proto.Marshal(first); err != nil {
		return nil, nil, err
	}
	claim.revision, err = b.bucket.Update(ctx, bus.Calls, claim.name, raw, e.Revision)
	if errors.Is(err, bus.ErrConflict) {
		return nil, nil, ErrRunning
	}
	return claim, nil, err
}

// Settle writes down how the call has ended. If it fails, nobody will know.
func (c *Claim) Settle(ctx context.Context, result *executorv1.Result) error {
	c.record.Ended = true
	if proto.Size(result) <= maxResult {
		if err := c.book.seal(c.name, c.record, result); err != nil {
			return err
		}
	}
	raw, err := proto.Marshal(c.record)
	if err != nil {
		return err
	}
	_, err = c.book.bucket.Update(ctx, bus.Calls, c.name, raw, c.revision)
	return err
}

// Doubt writes down that nobody will know how the call has ended.
func (c *Claim) Doubt(ctx context.Context) error {
	c.record.Deadline = c.record.GetStartTime()
	raw, err := proto.Marshal(c.record)
	if err != nil {
		return err
	}
	_, err = c.book.bucket.Update(ctx, bus.Calls, c.name, raw, c.revision)
	return err
}

// Free gives the right back: the call was not made.
func (c *Claim) Free(ctx context.Context) error {
	return c.book.bucket.Delete(ctx, bus.Calls, c.name)
}
