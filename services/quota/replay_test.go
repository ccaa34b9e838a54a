package quota_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

func TestIdempotency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := client(t, service(t, "rules: [{id: a, key: [user], limit: 2/hour}]"))
		call := func(key, user string, cost uint32) *quotav1.CheckResponse {
			t.Helper()
			req := costs(cost, check("user", user))
			req.IdempotencyKey = key
			res, err := c.Check(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		left := func() uint64 {
			t.Helper()
			res, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject("user", "ann")})
			if err != nil {
				t.Fatal(err)
			}
			return res.GetLimits()[0].GetRemaining()
		}
		first := call("k1", "ann", 1)
		time.Sleep(59 * time.Second)
		if again := call("k1", "ann", 1); !proto.Equal(first, again) || left() != 1 {
			t.Errorf("a repetition: got %v and %d left, want %v and 1 left", again, left(), first)
		}
		if call("k1", "ann", 2).GetAllowed() {
			t.Error("the key with another cost: got the first answer")
		}
		if got := call("k1", "bob", 1).GetLimits()[0].GetRemaining(); got != 1 {
			t.Errorf("the key of another user: got %d left, want 1", got)
		}
		time.Sleep(time.Second)
		if call("k1", "ann", 1); left() != 0 {
			t.Errorf("a repetition after a minute: got %d left, want 0", left())
		}
		if call("k2", "ann", 1).GetAllowed() {
			t.Error("one more: got allowed")
		}
		time.Sleep(59 * time.Second)
		if res := call("k2", "ann", 1); res.GetAllowed() || res.GetRetryAfter().AsDuration() != 59*time.Minute {
			t.Errorf("a refusal repeated: got %v, want the first answer", res)
		}
	})
}

func TestSimultaneousRepetitionsAreChargedOnce(t *testing.T) {
	t.Parallel()
	c := client(t, service(t, "rules: [{id: a, limit: 100/hour}]"))
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			req := check()
			req.IdempotencyKey = fmt.Sprint(i % 10)
			if _, err := c.Check(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	res, err := c.Usage(t.Context(), &quotav1.UsageRequest{Subject: subject()})
	if err != nil {
		t.Fatal(err)
	}
	if got := res.GetLimits()[0].GetRemaining(); got != 90 {
		t.Errorf("10 keys, 10 times each: got %d left, want 90", got)
	}
}

func TestReplaysAreBounded(t *testing.T) {
	t.Parallel()
	c := client(t, service(t, "max_replays: 16\nrules: [{id: a, limit: 100000/hour}]"))
	send := func(key string) uint64 {
		t.Helper()
		req := check()
		req.IdempotencyKey = key
		res, err := c.Check(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return res.GetLimits()[0].GetRemaining()
	}
	first := send("first")
	if again := send("first"); again != first {
		t.Errorf("a repetition: got %d left, want %d", again, first)
	}
	for i := range 500 {
		send(fmt.Sprint(i))
	}
	if again := send("first"); again != first-501 {
		t.Errorf("a repetition that was forgotten: got %d left, want %d: it must be charged", again, first-501)
	}
}
