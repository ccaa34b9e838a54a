package cluster

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/limiter"
)

// seldom is mostly zero, so that columns have gaps and ends.
func seldom[T any](rng *rand.Rand, value T) (zero T) {
	if rng.IntN(3) == 0 {
		return value
	}
	return zero
}

func randomGroup(rng *rand.Rand) group {
	g := group{verb: quotav1.AskVerb(1 + rng.IntN(7)), permit: seldom(rng, "p_x"), ttl: seldom(rng, time.Second)}
	for range rng.IntN(4) {
		g.asks = append(g.asks, asked{
			limit: rng.Uint64(), key: limiter.Key{Hi: rng.Uint64(), Lo: rng.Uint64()}, cost: seldom(rng, rng.Uint32()),
			mark: seldom(rng, rng.Int64()), reign: seldom(rng, rng.Uint64()), want: seldom(rng, rng.Uint32()),
		})
	}
	return g
}

func randomAnswer(rng *rand.Rand) answer {
	a := answer{outcome: quotav1.AskOutcome(1 + rng.IntN(6))}
	for range rng.IntN(4) {
		a.states = append(a.states, told{
			state: limiter.State{
				Remaining: seldom(rng, rng.Uint32()), Exceeded: seldom(rng, true), Reset: seldom(rng, time.Second),
				Wait: seldom(rng, limiter.Never), Slack: seldom(rng, time.Millisecond),
			},
			unsettled: seldom(rng, true), mark: seldom(rng, rng.Int64()), reign: seldom(rng, rng.Uint64()),
			granted: seldom(rng, rng.Uint32()), grantedFor: seldom(rng, time.Hour), grantMark: seldom(rng, rng.Int64()), grantReign: seldom(rng, rng.Uint64()),
		})
	}
	return a
}

// across is what arrives of a message.
func across[M proto.Message](t *testing.T, from, to M) M {
	t.Helper()
	b, err := proto.Marshal(from)
	if err == nil {
		err = proto.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestColumnsSayWhatWasSaid(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	var frame quotav1.AskFrame // one for all, as a link has
	same := cmp.Options{
		cmp.AllowUnexported(group{}, asked{}, answer{}, told{}),
		cmp.Transformer("nil", func(a []asked) []asked { return append([]asked{}, a...) }),
		cmp.Transformer("nil", func(a []told) []told { return append([]told{}, a...) }),
	}
	for range 1000 {
		var groups []group
		var answers []answer
		reply, states := &quotav1.AskReply{}, 0
		emptyFrame(&frame)
		for range 1 + rng.IntN(10) {
			groups, answers = append(groups, randomGroup(rng)), append(answers, randomAnswer(rng))
			addGroup(&frame, &groups[len(groups)-1])
			states = addAnswer(reply, states, &answers[len(answers)-1])
		}
		got, err := groupsOf(across(t, &frame, &quotav1.AskFrame{}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(groups, got, same...); diff != "" {
			t.Fatalf("groups (-want +got):\n%s", diff)
		}
		back, err := answersOf(across(t, reply, &quotav1.AskReply{}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(answers, back, same...); diff != "" {
			t.Fatalf("answers (-want +got):\n%s", diff)
		}
	}
}

func TestColumnsMustBelongTogether(t *testing.T) {
	t.Parallel()
	take := quotav1.AskVerb_ASK_VERB_TAKE
	for name, f := range map[string]*quotav1.AskFrame{
		"more sizes than groups": {Sizes: []uint32{0}},
		"a group that is large":  {Verbs: []quotav1.AskVerb{take}, Sizes: []uint32{maxAsks + 1}, Limits: make([]uint64, 65), His: make([]uint64, 65), Los: make([]uint64, 65)},
		"a size beyond numbers":  {Verbs: []quotav1.AskVerb{take, take}, Sizes: []uint32{1, 1<<32 - 1}},
		"too many groups":        {Verbs: make([]quotav1.AskVerb, maxGroups+1)},
		"asks of no group":       {Verbs: []quotav1.AskVerb{take}, Limits: []uint64{1}, His: []uint64{1}, Los: []uint64{1}},
		"a key without a half":   {Verbs: []quotav1.AskVerb{take}, Sizes: []uint32{1}, Limits: []uint64{1}, His: []uint64{1}},
		"or without the other":   {Verbs: []quotav1.AskVerb{take}, Sizes: []uint32{1}, Limits: []uint64{1}, Los: []uint64{1}},
	} {
		if got, err := groupsOf(f); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
	for name, r := range map[string]*quotav1.AskReply{
		"more sizes than answers": {Sizes: []uint32{0}},
		"states beyond numbers":   {Outcomes: make([]quotav1.AskOutcome, 1), Sizes: []uint32{1<<32 - 1}},
	} {
		if got, err := answersOf(r); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func FuzzColumns(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 10 {
		var frame quotav1.AskFrame
		reply, states := &quotav1.AskReply{}, 0
		for range rng.IntN(5) {
			g, a := randomGroup(rng), randomAnswer(rng)
			addGroup(&frame, &g)
			states = addAnswer(reply, states, &a)
		}
		for _, m := range []proto.Message{&frame, reply} {
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var frame quotav1.AskFrame
		if proto.Unmarshal(b, &frame) == nil {
			if groups, err := groupsOf(&frame); err == nil && len(groups) > maxGroups {
				t.Errorf("got %d groups", len(groups))
			}
		}
		var reply quotav1.AskReply
		if proto.Unmarshal(b, &reply) == nil {
			_, _ = answersOf(&reply) // must not panic
		}
	})
}

// BenchmarkColumns is what a message of eight asks costs both ends.
func BenchmarkColumns(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	g := group{verb: quotav1.AskVerb_ASK_VERB_TAKE, asks: []asked{{limit: rng.Uint64(), key: limiter.Key{Hi: rng.Uint64(), Lo: rng.Uint64()}, cost: 1}}}
	var frame quotav1.AskFrame
	var text []byte
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			emptyFrame(&frame)
			for range 8 {
				addGroup(&frame, &g)
			}
			text, _ = proto.MarshalOptions{}.MarshalAppend(text[:0], &frame)
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var f quotav1.AskFrame
			if err := proto.Unmarshal(text, &f); err != nil {
				b.Fatal(err)
			}
			if _, err := groupsOf(&f); err != nil {
				b.Fatal(err)
			}
		}
	})
}
