package edge

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sallyport-mcp/sallyport/pkg/audit"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

// words are the parts of answers that never change.
type words struct {
	headers    fixedHeaders
	serverInfo string // a member of _meta
	discover   string // members of a result, as all below
	aboutUs    string // of initialize
	listEnd    string
}

func newWords(cfg Config, version string) words {
	info := `{"name":"sallyport","title":"Sallyport","version":` + quoted(version) + `}`
	instructions := ""
	if cfg.Instructions != "" {
		instructions = `,"instructions":` + quoted(cfg.Instructions)
	}
	ttl := strconv.FormatInt(cfg.ListTTL.Milliseconds(), 10)
	return words{
		headers:    newFixedHeaders(),
		serverInfo: `"io.modelcontextprotocol/serverInfo":` + info,
		discover:   instructions + `,"ttlMs":` + ttl + `,"cacheScope":"private"`,
		aboutUs:    `,"serverInfo":` + info + instructions,
		// A list depends on who asks: never to be shared.
		listEnd: `,"ttlMs":` + ttl + `,"cacheScope":"private"`,
	}
}

// supported is the one list of revisions, for discover and for errors.
const supported = `["` + version2026 + `","` + version2511 + `","` + version2506 + `"]`

func quoted(text string) string { return string(appendText(nil, text)) }

// appendText writes a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendText(b []byte, text string) []byte {
	b, _ = jsontext.AppendQuote(b, text)
	return b
}

// beginResult starts an answer; members of the result follow.
func (x *exchange) beginResult() { x.beginResultOf("complete") }

// beginResultOf starts an answer of a resultType, which the modern era has.
func (x *exchange) beginResultOf(kind string) {
	b := append(x.out[:0], `{"jsonrpc":"2.0","id":`...)
	b = append(b, x.id...)
	b = append(b, `,"result":{`...)
	if x.era == eraModern {
		b = append(append(append(b, `"resultType":"`...), kind...), `",`...)
	}
	x.out = b
}

// endResult ends and sends the answer, with _meta where there is anything for
// it. Members are complete and without a comma at the end.
func (x *exchange) endResult(members ...[]byte) {
	b := x.out
	comma := func() {
		if last := b[len(b)-1]; last != ',' && last != '{' {
			b = append(b, ',')
		}
	}
	if x.era == eraModern || len(members) > 0 {
		comma()
		b = append(b, `"_meta":{`...)
		if x.era == eraModern {
			b = append(b, x.s.words.serverInfo...)
		}
		for _, m := range members {
			if len(m) > 0 {
				comma()
				b = append(b, m...)
			}
		}
		b = append(b, '}')
	} else if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	x.out = append(b, `}}`...)
	if x.outcome == "" {
		x.outcome = outcomeOK
	}
	x.write(http.StatusOK, x.s.words.headers.json)
}

// lingerTimeout is how long a client that was answered early may go on to send
// its body.
const lingerTimeout = time.Second

// write sends the answer in x.out.
func (x *exchange) write(code int, contentType []string) {
	x.settle()
	if x.streaming() {
		x.written = true
		x.tell(x.out)
		return
	}
	h := x.w.Header()
	length := noLength
	if contentType != nil {
		h["Content-Type"] = contentType
		length = len(x.out)
	}
	tellFacts(h, x.decision, x.limits, length)
	if !x.consumed && x.r.ContentLength != 0 && x.r.ProtoMajor == 1 {
		// Else net/http would wait for the rest of the body before it sends the
		// answer, and a caller without a credential could hold a connection.
		// After it, net/http waits for the rest all the same.
		h["Connection"] = x.s.words.headers.closing
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(lingerTimeout))
	}
	// Where deadlines are not supported the server's own timeout holds.
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.s.cfg.WriteTimeout))
	x.written = true
	x.w.WriteHeader(code)
	_, _ = x.w.Write(x.out) // a client that went away gets nothing
}

// answerRefusal tells the caller that the request was refused and why, and puts
// it on record.
func (x *exchange) answerRefusal(refused *refusal) {
	x.settle()
	how := statuses(refused.kind)
	if refused.reason == auditv1.Reason_REASON_UNSPECIFIED {
		refused.reason = how.reason
	}
	if refused.decision == "" && refused.reason != auditv1.Reason_REASON_UNSPECIFIED {
		refused.decision = audit.NewDecisionID()
	}
	x.decision, x.reason, x.code = refused.decision, refused.reason, how.code
	refused.spent = x.booking.spent
	switch {
	case refused.reason == auditv1.Reason_REASON_CANCELLED:
		x.outcome = outcomeCancelled
	case refused.kind == kindInternal, refused.kind == kindPeer:
		x.outcome = outcomeFailed
	case refused.verdict == auditv1.Verdict_VERDICT_ALLOW:
		x.outcome = outcomeTool
	default:
		x.outcome = outcomeRefused
	}
	if !x.plain {
		x.ensureSpan() // so that the record is in its trace
	}
	if !refused.recorded {
		x.record(refused)
	}
	if refused.kind == kindCancelled && x.hush() {
		return
	}
	if x.written {
		return // a bug after the answer; all that can be done is to have it on record
	}
	h := x.w.Header()
	if refused.challenge != "" {
		h["Www-Authenticate"] = []string{refused.challenge}
	}
	if refused.retryAfter > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(seconds(refused.retryAfter), 10)}
	}
	code := how.modern
	if x.era == eraLegacy {
		code = how.legacy
	}
	switch {
	case refused.kind == kindResult:
		x.writeRefusedResult(refused)
	case x.plain:
		x.writeProblem(refused, code)
	default:
		x.writeError(refused, how.code, code)
	}
}

func (x *exchange) writeError(refused *refusal, code, httpStatus int) {
	b := append(x.out[:0], `{"jsonrpc":"2.0"`...)
	if x.id != nil {
		b = append(b, `,"id":`...)
		b = append(b, x.id...)
	}
	b = append(b, `,"error":{"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"message":`...)
	message := refused.message + "."
	if refused.kind == kindForbidden {
		message = refused.text()
	}
	b = appendText(b, message)
	if refused.decision != "" {
		b = append(b, `,"data":{`...)
		if refused.uri != "" {
			b = append(appendText(append(b, `"uri":`...), refused.uri), ',')
		}
		if refused.kind == kindCapability {
			b = append(append(append(b, `"requiredCapabilities":`...), refused.capabilities...), ',')
		}
		if refused.kind == kindVersion {
			b = append(b, `"supported":`+supported+`,"requested":`...)
			b = appendText(b, refused.requested)
			b = append(b, ',')
		}
		b = refused.appendFacts(b)
		b = append(b, '}')
	}
	x.out = append(b, `}}`...)
	x.write(httpStatus, x.s.words.headers.json)
}

// writeProblem answers callers that are no MCP clients, by RFC 9457.
func (x *exchange) writeProblem(refused *refusal, httpStatus int) {
	b := append(x.out[:0], `{"type":"about:blank","title":`...)
	b = appendText(b, http.StatusText(httpStatus))
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(httpStatus), 10)
	b = append(b, `,"detail":`...)
	b = appendText(b, refused.message+".")
	if refused.decision != "" {
		b = append(b, ',')
		b = refused.appendFacts(b)
	}
	x.out = append(b, '}')
	x.write(httpStatus, x.s.words.headers.problem)
}

// writeRefusedResult answers a refusal that the model should read. It never has
// structuredContent: clients check that against the tool's output schema.
func (x *exchange) writeRefusedResult(refused *refusal) {
	x.beginResult()
	x.out = append(x.out, `"content":[{"type":"text","text":`...)
	x.out = appendText(x.out, refused.text())
	x.out = append(x.out, `}],"isError":true`...)
	x.endResult(refused.meta())
}

// text is the refusal in sentences.
func (f *refusal) text() string {
	var b strings.Builder
	message := strings.TrimRight(f.message, ". ")
	if f.complete {
		return message + ". Decision " + f.decision + "."
	}
	switch {
	case f.policy != "":
		b.WriteString("Denied by policy " + printable(f.policy, 128) + ": " + message + ".")
	case f.reason == auditv1.Reason_REASON_POLICY_DENIED:
		b.WriteString("Denied: " + message + ".")
	default:
		b.WriteString(capital(message) + ".")
	}
	if f.retryAfter > 0 {
		b.WriteString(" Retry in " + strconv.FormatInt(seconds(f.retryAfter), 10) + " s, not sooner.")
	}
	for _, v := range f.violations {
		b.WriteString(" At " + pointerText(v.GetPointer()) + ": " + strings.TrimRight(v.GetMessage(), ". ") + ".")
	}
	if text := advice(f.reason, f.retryAfter > 0); text != "" {
		b.WriteString(" " + text + ".")
	}
	b.WriteString(" Decision " + f.decision + ".")
	return b.String()
}

// capital begins a sentence that a peer may have written as half of one.
func capital(text string) string {
	if text != "" && 'a' <= text[0] && text[0] <= 'z' {
		return string(text[0]-'a'+'A') + text[1:]
	}
	return text
}

func pointerText(pointer string) string {
	if pointer == "" {
		return "the top"
	}
	return pointer
}

// meta is the refusal for programs, as a member of _meta.
func (f *refusal) meta() []byte {
	verdict := f.verdict
	if verdict == auditv1.Verdict_VERDICT_UNSPECIFIED {
		verdict = auditv1.Verdict_VERDICT_DENY
	}
	b := append(make([]byte, 0, 256), `"dev.sallyport/decision":{"verdict":"`...)
	b = append(b, strings.TrimPrefix(verdict.String(), "VERDICT_")...)
	b = f.appendFacts(append(b, `",`...))
	return appendProvenance(append(b, '}'), f.from)
}

// appendFacts writes what programs may want to know, as members of an object.
func (f *refusal) appendFacts(b []byte) []byte {
	b = append(b, `"reason":"`...)
	b = append(b, reasonName(f.reason)...)
	b = append(b, `","decision_id":"`...)
	b = append(b, f.decision...)
	b = append(b, '"')
	if f.approval != "" {
		b = appendText(append(b, `,"approval_id":`...), f.approval)
	}
	if f.policy != "" {
		b = appendText(append(b, `,"policy":`...), f.policy)
	}
	if f.limit != "" {
		b = appendText(append(b, `,"rule":`...), f.limit)
	}
	b = append(b, `,"retryable":`...)
	b = strconv.AppendBool(b, f.retryable)
	if f.retryAfter > 0 {
		b = append(b, `,"retry_after_seconds":`...)
		b = strconv.AppendInt(b, seconds(f.retryAfter), 10)
	}
	return appendViolations(appendSpent(b, f.spent), f.violations)
}

func appendViolations(b []byte, violations []*executorv1.Violation) []byte {
	for i, v := range violations {
		if i == 0 {
			b = append(b, `,"violations":[`...)
		} else {
			b = append(b, ',')
		}
		b = appendText(append(b, `{"pointer":`...), v.GetPointer())
		b = appendText(append(b, `,"message":`...), v.GetMessage())
		b = append(b, '}')
		if i == len(violations)-1 {
			b = append(b, ']')
		}
	}
	return b
}
