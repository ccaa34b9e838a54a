package main

import (
	"fmt"
	"strings"
)

const (
	eraModern = "modern"
	eraLegacy = "legacy"
)

// marker is in the argument of every call, and therefore has to be in every
// answer.
const marker = "hello from the bench"

// toolCall is the whole request that every server is sent: echo, by a client of
// the era. Servers that know no keys ignore the key.
func toolCall(era, host, key string) []byte {
	version, headers, meta := "2025-11-25", "", ""
	if era == eraModern {
		version = "2026-07-28"
		headers = "Mcp-Method: tools/call\r\nMcp-Name: echo\r\n"
		meta = `,"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
			`"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1.0.0"},"io.modelcontextprotocol/clientCapabilities":{}}`
	}
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + marker + `"}` + meta + `}}`
	var b strings.Builder
	b.WriteString("POST /mcp HTTP/1.1\r\nHost: " + host + "\r\n")
	b.WriteString("Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n")
	b.WriteString("MCP-Protocol-Version: " + version + "\r\n" + headers)
	if key != "" {
		b.WriteString("Authorization: Bearer " + key + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return []byte(b.String())
}
