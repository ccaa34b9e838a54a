package edge_test

import (
	"strings"
	"testing"
)

// What tells where a request ends must have one meaning for us and for whatever
// stands before us; where it may not have, the connection ends with the request.
func TestHostileFraming(t *testing.T) {
	t.Parallel()
	ping := post("", pingBody)
	// A body that is a request itself, for whoever misjudges where it begins.
	hidden := "0\r\n\r\n" + theft
	runAttacks(t, newWorld(t), []attack{
		{"an honest request", ping, []told{{200, 0}}, true},
		{"two requests in one write", ping + ping, []told{{200, 0}, {200, 0}}, true},
		{"empty lines before a request", "\r\n\r\n" + ping, []told{{400, 0}}, false},
		{"no length at all", legacyHead + "\r\n", []told{{400, -32700}}, true},
		{"bytes beyond the length", ping + "garbage\r\n\r\n", []told{{200, 0}, {400, 0}}, false},
		{"the same length twice", post("Content-Length: 40\r\n", pingBody), []told{{200, 0}}, true},
		{"two lengths that differ", post("Content-Length: 4\r\n", pingBody), []told{{400, 0}}, false},
		{"a list of lengths", legacyHead + "Content-Length: 40, 40\r\n\r\n" + pingBody, []told{{400, 0}}, false},
		{"a length with a sign", legacyHead + "Content-Length: +40\r\n\r\n" + pingBody, []told{{400, 0}}, false},
		{"a negative length", legacyHead + "Content-Length: -1\r\n\r\n" + pingBody, []told{{400, 0}}, false},
		{"a length in hexadecimal", legacyHead + "Content-Length: 0x28\r\n\r\n" + pingBody, []told{{400, 0}}, false},
		{"an empty length", legacyHead + "Content-Length: \r\n\r\n" + pingBody, []told{{400, 0}}, false},
		{"a length beyond 64 bits", legacyHead + "Content-Length: 18446744073709551656\r\n\r\n" + pingBody, []told{{400, 0}}, false},
		{"a length beyond the limit", legacyHead + "Content-Length: 9000000000000000000\r\n\r\n" + pingBody, []told{{413, -31413}}, false},
		{"a space before the colon of the length", legacyHead + "Content-Length : 40\r\n\r\n" + pingBody, []told{{400, 0}}, false},

		// RFC 9112, 6.1: of a length and chunks the chunks count, and the
		// connection must not be used again.
		{"chunks and a length", chunks("Content-Length: 4\r\n", chunk(pingBody)+"0\r\n\r\n"), []told{{200, 0}}, false},
		{
			"chunks and a length, with a request after the chunks",
			chunks("Content-Length: 400\r\n", chunk(pingBody)+hidden),
			[]told{{200, 0}},
			false,
		},
		{"chunks that no length contradicts, and a request behind", chunks("", chunk(pingBody)+hidden), []told{{200, 0}}, false},
		{"chunks in an HTTP/1.0 request", strings.Replace(chunks("Connection: keep-alive\r\n", hidden), "1.1", "1.0", 1), []told{{400, -32700}}, false},
		{
			"chunks and a length in an HTTP/1.0 request",
			strings.Replace(chunks("Connection: keep-alive\r\nContent-Length: 40\r\n", pingBody+theft), "1.1", "1.0", 1),
			[]told{{200, 0}},
			false,
		},
		{"an HTTP/1.0 request", strings.Replace(post("Connection: keep-alive\r\n", pingBody), "1.1", "1.0", 1) + theft, []told{{200, 0}}, false},
		{"two transfer encodings", chunks("Transfer-Encoding: identity\r\n", hidden), []told{{501, 0}}, false},
		{"chunked twice", chunks("Transfer-Encoding: chunked\r\n", hidden), []told{{501, 0}}, false},
		{"chunked among others", legacyHead + "Transfer-Encoding: gzip, chunked\r\n\r\n" + hidden, []told{{501, 0}}, false},
		{"a transfer encoding that looks like chunked", legacyHead + "Transfer-Encoding: xchunked\r\n\r\n" + hidden, []told{{501, 0}}, false},
		{"identity", legacyHead + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n" + hidden, []told{{501, 0}}, false},
		{"chunked after a vertical tab", legacyHead + "Transfer-Encoding: \x0bchunked\r\n\r\n" + hidden, []told{{400, 0}}, false},
		{"a space before the colon of chunked", legacyHead + "Transfer-Encoding : chunked\r\n\r\n" + hidden, []told{{400, 0}}, false},
		{"a fold before chunked", legacyHead + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunk(pingBody) + hidden, []told{{200, 0}}, false},

		{"a request in the body of one without a credential", strings.Replace(post("", theft), "Bearer good", "Bearer bad", 1), []told{{401, -31401}}, false},
		{"a request in the body of a GET", honestPing[:len(honestPing)-2] + "Content-Length: 400\r\n\r\n" + theft, []told{{200, 0}}, false},
		{"a request in the chunks of a GET", honestPing[:len(honestPing)-2] + "Transfer-Encoding: chunked\r\n\r\n" + hidden, []told{{200, 0}}, false},
		{"a request in the body of what is not here", strings.Replace(post("", theft), "/mcp", "/nothing", 1), []told{{404, 0}}, false},
		{"a request in a body of another type", strings.Replace(post("", theft), "application/json", "text/plain", 1), []told{{415, -31415}}, false},
		{"a request in a body that is too large", legacyHead + "Content-Length: 300000\r\n\r\n" + theft, []told{{413, -31413}}, false},
		{
			"a request without a credential after one with",
			ping + strings.Replace(theft, "Authorization: Bearer good\r\n", "", 1),
			[]told{{200, 0}, {401, -31401}},
			false,
		},
		{
			"a request with a bad credential after one with a good one",
			ping + strings.Replace(theft, "Bearer good", "Bearer bad", 1),
			[]told{{200, 0}, {401, -31401}},
			false,
		},
	})
}

func TestHostileChunks(t *testing.T) {
	t.Parallel()
	const end = "0\r\n\r\n"
	runAttacks(t, newWorld(t), []attack{
		{"honest chunks", chunks("", chunk(pingBody[:7])+chunk(pingBody[7:])+end), []told{{200, 0}}, false},
		{"a size with leading zeros", chunks("", "00000028\r\n"+pingBody+"\r\n"+end), []told{{200, 0}}, false},
		{"a size with too many leading zeros", chunks("", strings.Repeat("0", 20)+"28\r\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"a size that is no number", chunks("", "zz\r\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"a size with a prefix", chunks("", "0x28\r\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"a size with a sign", chunks("", "-28\r\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"an empty size", chunks("", "\r\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"a size beyond 64 bits", chunks("", "10000000000000028\r\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"a huge chunk that is announced", chunks("", "7fffffffffffffff\r\n"+strings.Repeat(" ", 300_000)), []told{{413, -31413}}, false},
		{"a chunk longer than its size", chunks("", "5\r\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"a chunk that ends with a line feed alone", chunks("", "28\r\n"+pingBody+"\n"+end), []told{{400, -32700}}, false},
		{"a size that ends with a line feed alone", chunks("", "28\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"a size that ends with a carriage return alone", chunks("", "28\r"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"an extension", chunks("", "28;a=b;c=\"d\"\r\n"+pingBody+"\r\n"+end), []told{{200, 0}}, false},
		{"an extension that ends with a line feed alone", chunks("", "28;a\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{"a long extension", chunks("", "28;"+strings.Repeat("a", 64<<10)+"\r\n"+pingBody+"\r\n"+end), []told{{400, -32700}}, false},
		{
			"many small chunks with extensions",
			chunks("", strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\n \r\n", 1000)+end),
			[]told{{400, -32700}},
			false,
		},
		{"as many small chunks as the limit allows", chunks("", strings.Repeat("1\r\n \r\n", 1000)+chunk(pingBody)+end), []told{{200, 0}}, false},
		{"more small chunks than that", chunks("", strings.Repeat("1\r\n \r\n", 300_000)), []told{{413, -31413}}, false},
		{"a trailer", chunks("Trailer: X-Sum\r\n", chunk(pingBody)+"0\r\nX-Sum: 1\r\n\r\n"), []told{{200, 0}}, false},
		{"a trailer that was not announced", chunks("", chunk(pingBody)+"0\r\nMCP-Protocol-Version: 2026-07-28\r\n\r\n"), []told{{200, 0}}, false},
		{
			"a credential in the trailer",
			strings.Replace(chunks("Trailer: Authorization\r\n", chunk(pingBody)+"0\r\nAuthorization: Bearer good\r\n\r\n"), "Authorization: Bearer good\r\n", "", 1),
			[]told{{401, -31401}},
			false,
		},
		{
			"a credential in a trailer that was not announced",
			strings.Replace(chunks("", chunk(pingBody)+"0\r\nAuthorization: Bearer good\r\n\r\n"), "Authorization: Bearer good\r\n", "", 1),
			[]told{{401, -31401}},
			false,
		},
		{"a length in the trailer", chunks("Trailer: Content-Length\r\n", chunk(pingBody)+end), []told{{400, 0}}, false},
		{"a malformed trailer", chunks("", chunk(pingBody)+"0\r\nno colon\r\n\r\n"), []told{{400, -32700}}, false},
		{"a trailer without end", chunks("", chunk(pingBody)+"0\r\n"+strings.Repeat("x: y\r\n", 10_000)), []told{{400, -32700}}, false},
	})
}

func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	with := func(headers string) string { return post(headers, pingBody) }
	without := func(header, headers string) string {
		return strings.Replace(with(headers), header, "", 1)
	}
	const credential, kind = "Authorization: Bearer good\r\n", "Content-Type: application/json\r\n"
	runAttacks(t, newWorld(t), []attack{
		{"a header that is not needed", with("X-A: b\r\n"), []told{{200, 0}}, true},
		{"a huge header", with("X-A: " + strings.Repeat("a", 64<<10) + "\r\n"), []told{{431, 0}}, false},
		{"a huge name", with(strings.Repeat("a", 64<<10) + ": b\r\n"), []told{{431, 0}}, false},
		{"a huge target", strings.Replace(with(""), "/mcp", "/mcp?"+strings.Repeat("a", 64<<10), 1), []told{{431, 0}}, false},
		{"very many headers", with(strings.Repeat("a: b\r\n", 10_000)), []told{{431, 0}}, false},
		{"more headers than anybody needs", with(manyHeaders(200)), []told{{431, -31431}}, false},
		{"more lines of one header than anybody needs", with(strings.Repeat("a:b\r\n", 200)), []told{{431, -31431}}, false},
		{"as many headers as some proxies add", with(manyHeaders(80)), []told{{200, 0}}, true},
		{"a NUL in a value", with("X-A: b\x00c\r\n"), []told{{400, 0}}, false},
		{"a NUL in a name", with("X\x00A: b\r\n"), []told{{400, 0}}, false},
		{"a carriage return in a value", with("X-A: b\rX-B: c\r\n"), []told{{400, 0}}, false},
		{"a carriage return before the name", with("\rX-A: b\r\n"), []told{{400, 0}}, false},
		{"a carriage return in the credential", without(credential, "Authorization: Bearer good\rX-A: b\r\n"), []told{{400, 0}}, false},
		{"a line feed alone ends a header, as RFC 9112 2.2 allows", with("X-A: b\nX-B: c\r\n"), []told{{200, 0}}, true},
		{"a delete character in a value", with("X-A: \x7f\r\n"), []told{{400, 0}}, false},
		{"an escape character in a value", with("X-A: \x1b[2J\r\n"), []told{{400, 0}}, false},
		{"a name that is no token", with("X A: b\r\n"), []told{{400, 0}}, false},
		{"a name that is not ASCII", with("X-\xc3\xa9: b\r\n"), []told{{400, 0}}, false},
		{"no name", with(": b\r\n"), []told{{400, 0}}, false},
		{"no colon", with("X-A\r\n"), []told{{400, 0}}, false},
		{"a space before the colon", with("X-A : b\r\n"), []told{{400, 0}}, false},
		{"a folded value is one line, as RFC 9112 5.2 allows", with("X-A: b\r\n c\r\n"), []told{{200, 0}}, true},
		{"a fold that hides a header is part of the value before", without(credential, "X-A: b\r\n Authorization: Bearer good\r\n"), []told{{401, -31401}}, false},
		{"a fold of the first header", strings.Replace(with(""), "Host", " X-A: b\r\nHost", 1), []told{{400, 0}}, false},
		{"a fold without anything to continue", "POST /mcp HTTP/1.1\r\n\tHost: localhost\r\n\r\n", []told{{400, 0}}, false},

		{"the same credential twice", with(credential), []told{{401, -31401}}, false},
		{"another credential first", strings.Replace(with(""), "Authorization", "Authorization: Bearer bad\r\nAuthorization", 1), []told{{401, -31401}}, false},
		{"two credentials in one line", without(credential, "Authorization: Bearer good, Bearer bad\r\n"), []told{{401, -31401}}, false},
		{"two credentials in two headers", with("X-API-Key: bad\r\n"), []told{{401, -31401}}, false},
		{"one credential in two headers", with("X-API-Key: good\r\n"), []told{{200, 0}}, true},
		{"the same key twice", without(credential, "X-API-Key: good\r\nX-API-Key: good\r\n"), []told{{401, -31401}}, false},
		{"space around a credential, which is not part of it", without(credential, "Authorization:  \t Bearer   good \t \r\n"), []told{{200, 0}}, true},
		{"a space in a credential", without(credential, "Authorization: Bearer go od\r\n"), []told{{401, -31401}}, false},
		{"a tab after the scheme", without(credential, "Authorization: Bearer\tgood\r\n"), []told{{401, -31401}}, false},
		{"a tab after the credential and more", without(credential, "Authorization: Bearer good\tx\r\n"), []told{{401, -31401}}, false},
		{"a NUL in a credential", without(credential, "Authorization: Bearer good\x00\r\n"), []told{{400, 0}}, false},
		{"a quoted credential", without(credential, "Authorization: Bearer \"good\"\r\n"), []told{{401, -31401}}, false},
		{"the credential alone", without(credential, "Authorization: good\r\n"), []told{{401, -31401}}, false},
		{"an empty credential", without(credential, "Authorization: Bearer \r\n"), []told{{401, -31401}}, false},
		{"an empty header for the credential", without(credential, "Authorization:\r\nX-API-Key: good\r\n"), []told{{401, -31401}}, false},
		{"another scheme", without(credential, "Authorization: Basic good\r\n"), []told{{401, -31401}}, false},
		{"a credential for a proxy", without(credential, "Proxy-Authorization: Bearer good\r\n"), []told{{401, -31401}}, false},
		{"a credential as a cookie", without(credential, "Cookie: Authorization=good; token=good\r\n"), []told{{401, -31401}}, false},
		{"a credential in the URL", strings.Replace(with(""), "/mcp", "/mcp?access_token=good", 1), []told{{401, -31401}}, false},
		{"a credential in the URL, escaped", strings.Replace(with(""), "/mcp", "/mcp?%61ccess_token=good", 1), []told{{401, -31401}}, false},
		{"a header that names headers to be dropped", with("Connection: Authorization\r\n"), []told{{200, 0}}, true},
		{"a method to be taken instead", with("X-HTTP-Method-Override: GET\r\n"), []told{{200, 0}}, true},
		{"a path to be taken instead", with("X-Original-URL: /ping\r\nX-Rewrite-URL: /ping\r\n"), []told{{200, 0}}, true},

		{"no type of body", without(kind, ""), []told{{415, -31415}}, false},
		{"two types of body", with(kind), []told{{415, -31415}}, false},
		{"a list of types", without(kind, "Content-Type: application/json, text/plain\r\n"), []told{{415, -31415}}, false},
		{"a type that forms can send", without(kind, "Content-Type: text/plain\r\n"), []told{{415, -31415}}, false},
		{"a type that forms can send, with ours in it", without(kind, "Content-Type: text/plain; application/json\r\n"), []told{{415, -31415}}, false},
		{"a form", without(kind, "Content-Type: application/x-www-form-urlencoded\r\n"), []told{{415, -31415}}, false},
		{"a form of parts", without(kind, "Content-Type: multipart/form-data; boundary=application/json\r\n"), []told{{415, -31415}}, false},
		{"a type that begins like ours", without(kind, "Content-Type: application/json-seq\r\n"), []told{{415, -31415}}, false},
		{"a type in capitals", without(kind, "Content-Type: Application/JSON\r\n"), []told{{200, 0}}, true},
		{"UTF-8", without(kind, "Content-Type: application/json; charset=\"UTF-8\"\r\n"), []told{{200, 0}}, true},
		{"UTF-16", without(kind, "Content-Type: application/json; charset=utf-16\r\n"), []told{{415, -31415}}, false},
		{"UTF-7", without(kind, "Content-Type: application/json; charset=utf-7\r\n"), []told{{415, -31415}}, false},
		{"two charsets", without(kind, "Content-Type: application/json; charset=utf-8; charset=utf-7\r\n"), []told{{415, -31415}}, false},
		{"two charsets, one encoded", without(kind, "Content-Type: application/json; charset=utf-8; charset*=utf-8''utf-7\r\n"), []told{{415, -31415}}, false},
		{"gzip", with("Content-Encoding: gzip\r\n"), []told{{415, -31415}}, false},
		{"an encoding that changes nothing", with("Content-Encoding: identity\r\n"), []told{{415, -31415}}, false},
		{"an empty encoding", with("Content-Encoding:\r\n"), []told{{415, -31415}}, false},
	})
}

// manyHeaders are different headers.
func manyHeaders(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("A" + string(rune('a'+i/26%26)) + string(rune('a'+i%26)) + ":b\r\n")
	}
	return b.String()
}

func TestHostileTargets(t *testing.T) {
	t.Parallel()
	target := func(line string) string {
		return strings.Replace(post("", pingBody), "POST /mcp HTTP/1.1", line, 1)
	}
	get := func(line string) string { return strings.Replace(honestPing, "GET /ping HTTP/1.1", line, 1) }
	runAttacks(t, newWorld(t), []attack{
		{"a query", target("POST /mcp?a=b HTTP/1.1"), []told{{200, 0}}, true},
		{"absolute form with our name", target("POST http://localhost/mcp HTTP/1.1"), []told{{200, 0}}, true},
		{"absolute form with another name and our Host", target("POST http://evil.example.com/mcp HTTP/1.1"), []told{{403, -31403}}, false},
		{"absolute form with our name as user", target("POST http://localhost@evil.example.com/mcp HTTP/1.1"), []told{{403, -31403}}, false},
		{"absolute form of another scheme", target("POST ftp://localhost/mcp HTTP/1.1"), []told{{200, 0}}, true},
		{"a target without a slash", target("POST mcp HTTP/1.1"), []told{{400, 0}}, false},
		{"an authority as target", target("POST localhost:80 HTTP/1.1"), []told{{404, 0}}, false},
		{"a target that begins with two slashes", target("POST //localhost/mcp HTTP/1.1"), []told{{404, 0}}, false},
		{"two slashes", target("POST //mcp HTTP/1.1"), []told{{404, 0}}, false},
		{"a slash at the end", target("POST /mcp/ HTTP/1.1"), []told{{404, 0}}, false},
		{"a detour", target("POST /ping/../mcp HTTP/1.1"), []told{{404, 0}}, false},
		{"an escaped slash", target("POST /%2fmcp HTTP/1.1"), []told{{404, 0}}, false},
		{"an escaped NUL", target("POST /mcp%00 HTTP/1.1"), []told{{404, 0}}, false},
		{"a parameter of the path", target("POST /mcp;a=b HTTP/1.1"), []told{{404, 0}}, false},
		{"another case", target("POST /MCP HTTP/1.1"), []told{{404, 0}}, false},
		{"an escape that is none", target("POST /mcp%zz HTTP/1.1"), []told{{400, 0}}, false},
		{"a NUL in the target", target("POST /mcp\x00 HTTP/1.1"), []told{{400, 0}}, false},
		{"a space in the target", target("POST /mc p HTTP/1.1"), []told{{400, 0}}, false},
		{"a tab in the request line", target("POST\t/mcp HTTP/1.1"), []told{{400, 0}}, false},
		{"two spaces in the request line", target("POST  /mcp HTTP/1.1"), []told{{400, 0}}, false},
		{"everything", target("OPTIONS * HTTP/1.1"), []told{{404, 0}}, false},
		{"a preflight from a page", target("OPTIONS /mcp HTTP/1.1"), []told{{405, -31405}}, false},
		{"a method that is no token", target("PO ST /mcp HTTP/1.1"), []told{{400, 0}}, false},
		{"a method in lower case", target("post /mcp HTTP/1.1"), []told{{405, -31405}}, false},
		{"a method of any name", target("X-Y /mcp HTTP/1.1"), []told{{405, -31405}}, false},
		{"TRACE", get("TRACE /mcp HTTP/1.1"), []told{{405, -31405}}, true},
		{"CONNECT to elsewhere", get("CONNECT evil.example.com:443 HTTP/1.1"), []told{{404, 0}}, false},
		{"CONNECT to the endpoint", get("CONNECT /mcp HTTP/1.1"), []told{{405, -31405}}, false},
		{"GET", get("GET /mcp HTTP/1.1"), []told{{405, -31405}}, true},
		{"HEAD", get("HEAD /mcp HTTP/1.1"), []told{{405, 0}}, true},
		{"DELETE", get("DELETE /mcp HTTP/1.1"), []told{{405, -31405}}, true},

		{"HTTP/0.9", "GET /ping\r\n\r\n", []told{{400, 0}}, false},
		{"HTTP/1.2", get("GET /ping HTTP/1.2"), []told{{200, 0}}, true},
		{"HTTP/2.0 in the clear", get("GET /ping HTTP/2.0"), []told{{505, 0}}, false},
		{"HTTP/2 in the clear, with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []told{{404, 0}}, false},
		{"a version that is no number", get("GET /ping HTTP/x.y"), []told{{400, 0}}, false},
		{"a version in lower case", get("GET /ping http/1.1"), []told{{400, 0}}, false},
		{"TLS in the clear", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []told{{400, 0}}, false},
		{"an upgrade to HTTP/2 is not done", post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", pingBody), []told{{200, 0}}, true},
		{"an upgrade to WebSocket is not done", post("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n", pingBody), []told{{200, 0}}, true},
		{"an expectation is met", post("Expect: 100-continue\r\n", pingBody), []told{{100, 0}, {200, 0}}, true},
		{
			"an expectation of one without a credential is not",
			strings.Replace(post("Expect: 100-continue\r\n", pingBody), "Bearer good", "Bearer bad", 1),
			[]told{{401, -31401}},
			false,
		},
		{"an expectation of a body that is too large is not", legacyHead + "Expect: 100-continue\r\nContent-Length: 300000\r\n\r\n", []told{{413, -31413}}, false},
		{"an expectation that nobody knows", post("Expect: 200-ok\r\n", pingBody), []told{{417, 0}}, false},
	})
}
