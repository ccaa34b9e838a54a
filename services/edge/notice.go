package edge

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// maxLogger is how much of a logger's name is passed on.
const maxLogger = 128

// severity returns the rank of a level by its name in RFC 5424, with debug as 0.
func severity(level string) (rank int, ok bool) {
	// A local slice, so that there is no state of the package.
	rank = slices.Index([]string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}, level)
	return rank, rank >= 0
}

// checkWishes checks what a modern request wants to be told before the answer.
func (x *exchange) checkWishes() *refusal {
	m := &x.msg
	if _, ok := severity(m.Text(m.MetaLogLevel)); m.MetaLogLevel.Present() && !ok {
		return refuse(kindMeta, "_meta[io.modelcontextprotocol/logLevel] has to be debug, info, notice, warning, error, critical, alert or emergency")
	}
	if m.MetaToken.Present() && !x.progressToken() {
		return refuse(kindMeta, "_meta.progressToken has to be a number or a short string")
	}
	return nil
}

// wantsNotices returns from which level on the client wants log messages, and ""
// if it wants none or cannot be told. The protocol forbids those that nobody has
// asked for; in the legacy era it leaves that to the server, and what a session
// wants is looked up only when there is something.
func (x *exchange) wantsNotices() string {
	switch {
	case x.stream == nil:
		return ""
	case x.era == eraModern:
		return x.msg.Text(x.msg.MetaLogLevel)
	case x.session != nil:
		return "debug"
	}
	return ""
}

// tellNotice passes on a log message of a provider. One that is not well formed
// is dropped: it is worth less than the call.
func (x *exchange) tellNotice(n *providerv1.Notice) {
	from, wanted := severity(x.wantsNotices())
	rank, ok := severity(n.GetLevel())
	if !wanted || !ok || rank < from || !jsontext.Value(n.GetData()).IsValid() {
		return
	}
	if x.era == eraLegacy && rank < x.sessionLevel() {
		return
	}
	b := append(make([]byte, 0, 128+len(n.GetData())), `"level":"`...)
	b = append(append(b, n.GetLevel()...), '"')
	if n.GetLogger() != "" {
		b = appendText(append(b, `,"logger":`...), printable(n.GetLogger(), maxLogger))
	}
	b = append(append(b, `,"data":`...), n.GetData()...)
	x.notify("notifications/message", b)
}
