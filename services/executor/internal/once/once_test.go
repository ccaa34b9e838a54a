package once_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus/bustest"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/once"
)

// keys has one key, by the name of its first byte.
type keys []byte

func (k keys) Key(id string) []byte {
	if id == string(k[:1]) {
		return k
	}
	return nil
}

func (k keys) Newest() (string, []byte) { return string(k[:1]), k }

var result = &executorv1.Result{Result: &providerv1.ToolResult{Structured: []byte(`{"deleted":true}`)}}

func call(edit ...func(*once.Call)) *once.Call {
	c := &once.Call{Principal: "p", Tool: "t", Key: "k", Decision: "d_1", Timeout: time.Minute}
	for _, e := range edit {
		e(c)
	}
	return c
}

func TestClaim(t *testing.T) {
	t.Parallel()
	b := once.NewBook(bustest.New(t), keys(bytes.Repeat([]byte("a"), 32)))
	claim, _, err := b.Claim(t.Context(), call())
	if err != nil || claim == nil {
		t.Fatal(claim, err)
	}
	if _, _, err := b.Claim(t.Context(), call()); !errors.Is(err, once.ErrRunning) {
		t.Errorf("meanwhile: %v", err)
	}
	if _, _, err := b.Claim(t.Context(), call(func(c *once.Call) { c.Arguments[0] = 1 })); !errors.Is(err, once.ErrOther) {
		t.Errorf("other arguments: %v", err)
	}
	for _, edit := range []func(*once.Call){
		func(c *once.Call) { c.Principal = "q" }, func(c *once.Call) { c.Tool = "u" }, func(c *once.Call) { c.Key = "l" },
		func(c *once.Call) { c.Principal, c.Tool = "pt", "" }, // no two ways to write one name
	} {
		if claim, _, err := b.Claim(t.Context(), call(edit)); claim == nil || err != nil {
			t.Errorf("another call: %v", err)
		}
	}
	if err := claim.Settle(t.Context(), result); err != nil {
		t.Fatal(err)
	}
	want := proto.CloneOf(result)
	want.Repeats = "d_1"
	if _, got, err := b.Claim(t.Context(), call(func(c *once.Call) { c.Decision = "d_2" })); err != nil || !proto.Equal(got, want) {
		t.Errorf("afterwards: %v, %v", got, err)
	}
}

func TestFree(t *testing.T) {
	t.Parallel()
	b := once.NewBook(bustest.New(t), keys(bytes.Repeat([]byte("a"), 32)))
	for range 3 {
		claim, _, err := b.Claim(t.Context(), call())
		if err != nil || claim == nil {
			t.Fatal(claim, err)
		}
		if err := claim.Free(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDoubt(t *testing.T) {
	t.Parallel()
	b := once.NewBook(bustest.New(t), keys(bytes.Repeat([]byte("a"), 32)))
	// One whose executor has died, after its time.
	if _, _, err := b.Claim(t.Context(), call(func(c *once.Call) { c.Timeout = -time.Hour })); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Claim(t.Context(), call()); !errors.Is(err, once.ErrDoubt) {
		t.Errorf("after its time: %v", err)
	}
	// One that says so itself.
	other := call(func(c *once.Call) { c.Key = "other" })
	claim, _, err := b.Claim(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	if err := claim.Doubt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Claim(t.Context(), other); !errors.Is(err, once.ErrDoubt) {
		t.Errorf("in doubt: %v", err)
	}
}

// A call that has asked the client goes on, and one at a time.
func TestContinue(t *testing.T) {
	t.Parallel()
	b := once.NewBook(bustest.New(t), keys(bytes.Repeat([]byte("a"), 32)))
	if _, _, err := b.Claim(t.Context(), call()); err != nil {
		t.Fatal(err)
	}
	goOn := call(func(c *once.Call) { c.Continues = true })
	claim, _, err := b.Claim(t.Context(), goOn)
	if err != nil || claim == nil {
		t.Fatal(claim, err)
	}
	if err := claim.Settle(t.Context(), result); err != nil {
		t.Fatal(err)
	}
	if _, got, err := b.Claim(t.Context(), goOn); err != nil || got.GetRepeats() != "d_1" {
		t.Errorf("again: %v, %v", got, err)
	}
	if _, _, err := b.Claim(t.Context(), call(func(c *once.Call) { c.Continues, c.Key = true, "never" })); !errors.Is(err, once.ErrRunning) {
		t.Errorf("what never began: %v", err)
	}
}

func TestResultsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	store := bustest.New(t)
	b := once.NewBook(store, keys(bytes.Repeat([]byte("a"), 32)))
	settle := func(c *once.Call, r *executorv1.Result) {
		t.Helper()
		claim, _, err := b.Claim(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if err := claim.Settle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	settle(call(), result)
	large := call(func(c *once.Call) { c.Key = "large" })
	settle(large, &executorv1.Result{Result: &providerv1.ToolResult{Structured: make([]byte, 300<<10)}})
	if _, _, err := b.Claim(t.Context(), large); !errors.Is(err, once.ErrForgotten) {
		t.Errorf("a large result: %v", err)
	}
	if _, _, err := once.NewBook(store, keys(bytes.Repeat([]byte("b"), 32))).Claim(t.Context(), call()); !errors.Is(err, once.ErrForgotten) {
		t.Errorf("a key that is gone: %v", err)
	}
	forged := append([]byte("a"), bytes.Repeat([]byte("c"), 31)...)
	if _, got, err := once.NewBook(store, keys(forged)).Claim(t.Context(), call()); err == nil || got != nil {
		t.Errorf("another key of the same name: %v, %v", got, err)
	}
}
