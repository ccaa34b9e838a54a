package edge

import (
	"strconv"

	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	"github.com/sallyport-mcp/sallyport/services/edge/internal/jsonrpc"
)

// progressToken reports whether the client has given a token for progress that
// can be repeated with each message.
func (x *exchange) progressToken() bool {
	token := x.msg.MetaToken
	return (token.Kind == jsonrpc.String || token.Kind == jsonrpc.Number) && token.End-token.Start <= maxID
}

// wantsProgress reports whether the client wants to be told of progress, and can
// be.
func (x *exchange) wantsProgress() bool { return x.stream != nil && x.progressToken() }

// tellProgress passes on how far the call is. The executor sees to it that
// progress grows.
func (x *exchange) tellProgress(p *providerv1.Progress) {
	if !x.wantsProgress() {
		return
	}
	b := append(make([]byte, 0, 128), `"progressToken":`...)
	b = append(b, x.msg.Raw(x.msg.MetaToken)...)
	b = strconv.AppendFloat(append(b, `,"progress":`...), p.GetProgress(), 'g', -1, 64)
	if p.Total != nil {
		b = strconv.AppendFloat(append(b, `,"total":`...), p.GetTotal(), 'g', -1, 64)
	}
	if p.GetMessage() != "" {
		b = appendText(append(b, `,"message":`...), p.GetMessage())
	}
	x.notify("notifications/progress", b)
}
