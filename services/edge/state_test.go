package edge

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/seal"
)

// asker is a request of somebody, as far as a state is bound to it.
func asker(t testing.TB, change func(*exchange)) *exchange {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edge.key") // always the same key
	if err := os.WriteFile(file, bytes.Repeat([]byte("k"), seal.KeySize), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := seal.Load([]string{file}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	box, err := keys.NewBox(statePurpose)
	if err != nil {
		t.Fatal(err)
	}
	approvals, err := keys.NewBox(approvalPurpose)
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{s: &Service{seals: box, approvalSeals: approvals}}
	x.principal, x.method, x.asked, x.digest = &authv1.Principal{Id: "key:anna"}, toolsCall, "pay", []byte("digest")
	if change != nil {
		change(x)
	}
	return x
}

func TestAStateIsForOneRequestOfOneCaller(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*exchange)
		ok     bool
	}{
		{"the same request", nil, true},
		{"another credential of the same principal", func(x *exchange) { x.principal = &authv1.Principal{Id: "key:anna", CredentialId: "2"} }, true},
		{"another principal", func(x *exchange) { x.principal = &authv1.Principal{Id: "key:bert"} }, false},
		{"nobody", func(x *exchange) { x.principal = nil }, false},
		{"another method", func(x *exchange) { x.method = "prompts/get" }, false},
		{"another tool", func(x *exchange) { x.asked = "pay2" }, false},
		{"other arguments", func(x *exchange) { x.digest = []byte("other!") }, false},
		{"the same bytes, cut elsewhere", func(x *exchange) { x.asked, x.digest = "pa", []byte("ydigest") }, false},
	}
	sealed, ok := asker(t, nil).sealState([]byte("state"))
	if !ok {
		t.Fatal("not sealed")
	}
	if strings.Contains(sealed, "state") {
		t.Error("the state can be read")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id, state, ok := asker(t, tt.change).openState(sealed)
			if ok != tt.ok || ok && (string(state) != "state" || len(id) != 2*stateIDSize) || !ok && (state != nil || id != "") {
				t.Errorf("got %q, %q, %v, want %v", id, state, ok, tt.ok)
			}
		})
	}
}

func TestAStateExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := asker(t, nil)
		sealed, _ := x.sealState(nil)
		time.Sleep(bus.RoundLife - time.Second)
		if _, _, ok := x.openState(sealed); !ok {
			t.Error("a state has expired before its time")
		}
		time.Sleep(time.Second)
		if _, _, ok := x.openState(sealed); ok {
			t.Error("a state is good after its time")
		}
	})
}

func TestStatesHaveIDsOfTheirOwn(t *testing.T) {
	t.Parallel()
	x := asker(t, nil)
	one, _ := x.sealState([]byte("state"))
	two, _ := x.sealState([]byte("state"))
	a, _, _ := x.openState(one)
	b, _, _ := x.openState(two)
	if a == b || a == "" {
		t.Errorf("got ids %q and %q", a, b)
	}
}

// What is sealed can come back: it is a string that the scanner takes.
func TestAStateIsAsLongAsCanComeBack(t *testing.T) {
	t.Parallel()
	x := asker(t, nil)
	longest := 0
	for low, high := 0, 64<<10; low <= high; {
		middle := (low + high) / 2
		if _, ok := x.sealState(make([]byte, middle)); ok {
			longest, low = middle, middle+1
		} else {
			high = middle - 1
		}
	}
	if longest < 40<<10 {
		t.Errorf("got at most %d bytes, want 40 KiB", longest)
	}
	sealed, _ := x.sealState(make([]byte, longest))
	body := []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"requestState":"` + sealed + `"}}`)
	var m jsonrpc.Message
	if err := jsonrpc.NewScanner(strictjson.DefaultLimits()).Scan(body, &m); err != nil || m.Text(m.RequestState) != sealed {
		t.Errorf("the longest state does not come back: %v", err)
	}
}

// Whatever a client brings, only what was sealed for this request opens: the
// workers of the fuzzer share the key and seal no other bytes for it.
func FuzzOpenState(f *testing.F) {
	x := asker(f, nil)
	sealed, _ := x.sealState([]byte("state"))
	other, _ := asker(f, func(x *exchange) { x.asked = "other" }).sealState([]byte("other"))
	short := x.s.seals.Seal(make([]byte, stateHead-1))
	for _, seed := range []string{"", "x", sealed, other, short, sealed + "A", strings.Repeat("A", 200)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, state, ok := x.openState(text); ok && string(state) != "state" {
			t.Fatalf("openState(%q): got %q", text, state)
		}
	})
}
