//lint:file-ignore SA1019 what the protocol has deprecated is still there, and legacy upstreams use it

package mcpbridge_test

import (
	"context"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// addOldTools adds the tools that use what 2026-07-28 has deprecated.
func addOldTools(tool func(name string, run mcp.ToolHandler)) {
	tool("log", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		for _, level := range []mcp.LoggingLevel{"debug", "info", "error"} {
			_ = req.Session.Log(ctx, &mcp.LoggingMessageParams{Level: level, Logger: "l", Data: string(level)})
		}
		return say("done")
	})
	tool("sample", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res, err := req.Session.CreateMessage(ctx, &mcp.CreateMessageParams{MaxTokens: 5, Messages: []*mcp.SamplingMessage{{Role: "user", Content: &mcp.TextContent{Text: "2+2"}}}})
		if err != nil {
			return say("refused")
		}
		return say(res.Content.(*mcp.TextContent).Text)
	})
	tool("roots", func(ctx context.Context, req *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		res, err := req.Session.ListRoots(ctx, nil)
		if err != nil {
			return say("refused")
		}
		return say(res.Roots[0].URI)
	})
}
