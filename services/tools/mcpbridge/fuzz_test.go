package mcpbridge

import (
	"testing"

	"google.golang.org/protobuf/proto"
)

// FuzzDefinitions reads what an upstream says that it has.
func FuzzDefinitions(f *testing.F) {
	for _, seed := range []string{
		`{"name":"t","inputSchema":{"type":"object"},"annotations":{"title":"x"},"icons":[{"src":"https://x"}],"_meta":{}}`,
		`{"uri":"a:b","size":-1,"annotations":{"audience":["user"],"priority":2}}`,
		`{"name":"p","arguments":[{"name":"a"}]}`, `{"uriTemplate":"{a}"}`, `null`, `[]`,
	} {
		f.Add([]byte(seed))
	}
	u := Upstream{Name: "up", URL: "https://x"}.filled()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if d, err := u.readTool(raw, true); err == nil {
			valid(t, d.definition)
		}
		if p, err := u.readPrompt(raw); err == nil {
			valid(t, p.definition)
		}
		if r, err := readResource(raw); err == nil {
			valid(t, r)
		}
		if d, err := readTemplate(raw); err == nil {
			valid(t, d)
			newTemplate(d)
		}
	})
}

// FuzzResults reads what an upstream answers, and asks.
func FuzzResults(f *testing.F) {
	for _, seed := range []string{
		`{"content":[{"type":"text","text":"x"},{"type":"image","data":"AA=="},{"type":"z"}],"structuredContent":{"a":1}}`,
		`{"contents":[{"uri":"a:b","blob":""}],"ttlMs":1e300}`,
		`{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a","text":""}}}]}`,
		`{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"mode":"url"}}},"requestState":"s"}`,
		`{"completion":{"values":["a"],"total":-1}}`,
	} {
		f.Add([]byte(seed))
	}
	can := readAbilities([]byte(`{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := readCompletion(raw); err == nil {
			valid(t, c)
		}
		r, err := readResult(raw)
		if err != nil {
			return
		}
		if m, err := r.toolResult(); err == nil {
			valid(t, m)
		}
		if m, err := r.resource(); err == nil {
			valid(t, m)
		}
		if m, err := r.prompt(); err == nil {
			valid(t, m)
		}
		if asked, err := r.modernQuestions(can); err == nil {
			if m, err := inputRequired(asked, []byte("s")); err == nil {
				valid(t, m)
			}
		}
	})
}

// FuzzRounds reads what comes back from a client.
func FuzzRounds(f *testing.F) {
	f.Add([]byte(`{"kind":"parked","who":"w","name":"n","id":"i"}`), []byte(`{"r1":{"action":"accept"}}`), []byte(`{"elicitation":{}}`))
	f.Add([]byte(`{}`), []byte(`[]`), []byte(`null`))
	f.Fuzz(func(t *testing.T, st, given, capabilities []byte) {
		if s, err := readState(st, "w", "n"); err == nil && len(st) > 0 && (s.Who != "w" || s.Name != "n") {
			t.Fatalf("the state of another was taken: %s", st)
		}
		m := answers(given)
		accepted(m, 2)
		for _, raw := range m {
			answerTo("elicitation/create", raw)
		}
		can := readAbilities(capabilities)
		can.can("elicitation/create", given)
		can.json()
	})
}

// valid fails if a message cannot be sent: above all if its texts are no UTF-8.
func valid(t *testing.T, m proto.Message) {
	t.Helper()
	if _, err := proto.Marshal(m); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
}
