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

// request is a whole HTTP request, and how its right answer is known.
type request struct {
	text  []byte
	mark  string // that the body of the answer has to have
	count int    // so many times; 0: any number of times but none
}

// toolCall is what every server is sent: echo, by a client of the era. Servers that
// know no keys ignore the key.
func toolCall(era, host, key string) request {
	params := `"name":"echo","arguments":{"text":"` + marker + `"}`
	return request{text: post(era, host, key, "tools/call", "Mcp-Name: echo\r\n", params), mark: marker}
}

// post is a request by a client of the era. The header is for modern ones alone.
func post(era, host, key, method, header, params string) []byte {
	version, headers, meta := "2025-11-25", "", ""
	if era == eraModern {
		version = "2026-07-28"
		headers = "Mcp-Method: " + method + "\r\n" + header
		meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
			`"io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1.0.0"},"io.modelcontextprotocol/clientCapabilities":{}}`
	}
	if params != "" && meta != "" {
		params += ","
	}
	body := `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":{` + params + meta + `}}`
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
