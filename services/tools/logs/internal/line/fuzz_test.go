package line_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/line"
)

// FuzzParse holds what is true of every line: its level and format have names,
// its time is one that a log can have, and reading it again gives the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"time":"2026-02-03T04:05:06.789Z","level":"ERROR","msg":"no \"route\" \ud83d\ude00"}`,
		`{"a":{"b":[1,"}"]},"ts":1770000000.25}`,
		`ts=2026-02-03T04:05:06Z level=warn msg="it is \"slow\"" took=12ms`,
		`<11>Feb  3 04:05:06 host app[12]: all is well`,
		`<165>1 2026-02-03T04:05:06Z host app 1 ID [a@1 k="v]"] hello`,
		`2026-02-03T04:05:06.123456+02:00 host kernel: oom error`,
		`192.0.2.1 - bob [03/Feb/2026:04:05:06 +0100] "GET /a?q=x HTTP/1.1" 503 12 "-" "curl"`,
		`2026/02/03 04:05:06 [crit] 7#8: *99 open() failed, client: 192.0.2.1`,
		`[2026-02-03 04:05:06] app.ERROR: boom`,
		"\x00 \xff\xfe", "<", "[", "{", "1", "a=", "=",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	p := line.NewParser(time.UTC, written)
	f.Fuzz(func(t *testing.T, b []byte, cut bool) {
		first := p.Parse(b, cut)
		shown := show(first)
		if first.Level >= line.Levels || first.Format >= line.Formats {
			t.Fatalf("Parse(%q) = %+v", b, first)
		}
		if first.Dated && (first.Time < 0 || first.Time > written.AddDate(0, 0, 1).UnixNano()) {
			t.Fatalf("Parse(%q): got time %d", b, first.Time)
		}
		if again := show(line.NewParser(time.UTC, written).Parse(b, cut)); again != shown {
			t.Fatalf("Parse(%q) = %+v, and then %+v", b, shown, again)
		}
	})
}

// FuzzJSON compares with encoding/json: what that takes for an object must be
// read as one, with the same message.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"msg":"a\u00fc\ud83d\ude00\n\"\\\/","level":"info"}`,
		`{"a":[{"msg":"x"}],"msg":null}`, `{"msg":1.5e3}`, `{ }`, `{"msg" : "\ud800"}`, `{"\u006dsg":"x"}`,
	} {
		f.Add([]byte(seed))
	}
	p := line.NewParser(time.UTC, written)
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Trim(b, " \t\r\n")
		if len(b) == 0 || b[0] != '{' || !json.Valid(b) || !utf8.Valid(b) {
			return
		}
		e := p.Parse(b, false)
		if e.Format != line.JSON {
			t.Fatalf("Parse(%q): got format %v", b, e.Format)
		}
		// With escaped keys or several for one thing the two may differ.
		var members map[string]json.RawMessage
		if json.Unmarshal(b, &members) != nil || len(members) != 1 ||
			!bytes.HasPrefix(bytes.TrimLeft(b[1:], " \t\r\n"), []byte(`"msg"`)) || bytes.Count(b, []byte(`"msg"`)) != 1 {
			return
		}
		var want string
		if json.Unmarshal(members["msg"], &want) != nil || want == "" {
			return
		}
		if got := string(e.Message); got != want {
			t.Fatalf("Parse(%q): got message %q, want %q", b, got, want)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{
		"json":   `{"time":"2026-02-03T04:05:06.789Z","level":"ERROR","msg":"payment for order 13601 failed","service":"shop","gateway":"northpay","error":"dial tcp 203.0.113.140:443: i/o timeout"}`,
		"logfmt": `ts=2026-02-03T04:05:06Z level=info msg="job started" job=82aa3846 queue=mail`,
		"syslog": `Feb  3 04:05:06 shop-1 sshd[705]: Accepted publickey for deploy from 192.0.2.104 port 4720 ssh2`,
		"access": `192.0.2.38 - - [03/Feb/2026:00:16:05 +0000] "GET /products/7 HTTP/1.1" 200 5690 "-" "Mozilla/5.0 (X11; Linux x86_64)"`,
		"plain":  `2026-02-03 04:05:06,789 INFO [main] com.example.Shop - order 17 placed by customer 3`,
		"text":   `    at com.example.shop.Checkout.pay(Checkout.java:123)`,
	} {
		b.Run(name, func(b *testing.B) {
			p := line.NewParser(time.UTC, written)
			in := []byte(text)
			b.SetBytes(int64(len(in) + 1))
			b.ReportAllocs()
			for b.Loop() {
				p.Parse(in, false)
			}
		})
	}
}
