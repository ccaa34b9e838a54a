package line_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/line"
)

// written is when all files of these tests were written last.
var written = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// entry is what a line should say; its time is in RFC 3339, empty if undated.
type entry struct {
	time, format, level, label, message string
}

func show(e line.Entry) entry {
	out := entry{format: e.Format.String(), level: e.Level.String(), label: string(e.Label), message: string(e.Message)}
	if e.Dated {
		out.time = time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano)
	}
	return out
}

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line string
		want       entry
	}{
		// JSON
		{
			"JSON of slog", `{"time":"2026-02-03T04:05:06.789Z","level":"ERROR","msg":"no route","n":1}`,
			entry{"2026-02-03T04:05:06.789Z", "json", "error", "", "no route"},
		},
		{
			"JSON of zap, seconds as a number", `{"level":"warn","ts":1770000000.25,"caller":"a/b.go:1","msg":"slow"}`,
			entry{"2026-02-02T02:40:00.25Z", "json", "warn", "", "slow"},
		},
		{
			"JSON of pino, numbers all over", `{"level":50,"time":1770000000123,"pid":1,"msg":"down"}`,
			entry{"2026-02-02T02:40:00.123Z", "json", "error", "", "down"},
		},
		{
			"JSON with a syslog severity", `{"level":4,"time":1770000000,"message":"hm"}`,
			entry{"2026-02-02T02:40:00Z", "json", "warn", "", "hm"},
		},
		{
			"JSON of the elastic schema", `{"@timestamp":"2026-02-03T05:05:06+01:00","log.level":"fatal","message":"dead"}`,
			entry{"2026-02-03T04:05:06Z", "json", "error", "", "dead"},
		},
		{
			"JSON of a container runtime", `{"log":"hello\n","stream":"stderr","time":"2026-02-03T04:05:06.123456789Z"}`,
			entry{"2026-02-03T04:05:06.123456789Z", "json", "info", "", "hello\n"},
		},
		{
			"JSON with an error beside the message", `{"ts":"2026-02-03T04:05:06Z","severity":"CRITICAL","msg":"cannot \"save\"","err":"disk \u00fcber\ud83d\ude00"}`,
			entry{"2026-02-03T04:05:06Z", "json", "error", "", `cannot "save": disk über😀`},
		},
		{
			"JSON of requests has the level of the status", `{"time":"2026-02-03T04:05:06Z","msg":"GET","status":404}`,
			entry{"2026-02-03T04:05:06Z", "json", "warn", "", "GET"},
		},
		{
			"JSON members of inner objects do not count", `{"inner":{"msg":"no","level":"error","a":["}",{"b":"]"}]},"time":"2026-02-03T04:05:06Z","msg":"yes"}`,
			entry{"2026-02-03T04:05:06Z", "json", "info", "", "yes"},
		},
		{
			"JSON without a message is its own", `{"time":"2026-02-03T04:05:06Z","a":1}`,
			entry{"2026-02-03T04:05:06Z", "json", "info", "", `{"time":"2026-02-03T04:05:06Z","a":1}`},
		},
		{
			"JSON without a time is undated", `{"level":"error","msg":"when?"}`,
			entry{"", "json", "error", "", "when?"},
		},
		{
			"JSON with something behind is text", `{"time":"2026-02-03T04:05:06Z","msg":"error"} x`,
			entry{"", "plain", "error", "", `{"time":"2026-02-03T04:05:06Z","msg":"error"} x`},
		},
		{
			"JSON without an end is text", `{"time":"2026-02-03T04:05:06Z","msg":"a`,
			entry{"", "plain", "info", "", `{"time":"2026-02-03T04:05:06Z","msg":"a`},
		},
		// logfmt
		{
			"logfmt", `ts=2026-02-03T04:05:06Z level=warn msg="it is \"slow\"" took=12ms`,
			entry{"2026-02-03T04:05:06Z", "logfmt", "warn", "", `it is "slow"`},
		},
		{
			"logfmt with bare words and an error", `time="2026-02-03 04:05:06" lvl=eror retry msg=gone err=EOF`,
			entry{"2026-02-03T04:05:06Z", "logfmt", "error", "", "gone: EOF"},
		},
		{
			"logfmt with an open quote", `ts=1770000000 level=info msg="never clo`,
			entry{"2026-02-02T02:40:00Z", "logfmt", "info", "", "never clo"},
		},
		{
			"one pair does not make logfmt", `x=1 is what failed`,
			entry{"", "plain", "warn", "", "x=1 is what failed"},
		},
		{
			"unknown pairs do not make logfmt", `x=1 y=2`,
			entry{"", "plain", "info", "", "x=1 y=2"},
		},
		// syslog
		{
			"RFC 3164 with priority", `<11>Feb  3 04:05:06 host app[12]: all is well`,
			entry{"2026-02-03T04:05:06Z", "syslog", "error", "app", "all is well"},
		},
		{
			"RFC 3164 without priority, level guessed", `Feb 13 04:05:06 host sshd[12]: Failed password for root`,
			entry{"2026-02-13T04:05:06Z", "syslog", "warn", "sshd", "Failed password for root"},
		},
		{
			"RFC 3164 of the year before, as it would be in the future", `Dec 31 23:59:59 host cron: tick`,
			entry{"2025-12-31T23:59:59Z", "syslog", "info", "cron", "tick"},
		},
		{
			"RFC 3164 of a day that only leap years have", `Feb 29 01:02:03 host cron: tick`,
			entry{"2024-02-29T01:02:03Z", "syslog", "info", "cron", "tick"},
		},
		{
			"RFC 3164 without a tag", `Feb  3 04:05:06 host something happened`,
			entry{"2026-02-03T04:05:06Z", "syslog", "info", "", "something happened"},
		},
		{
			"RFC 5424 with data and a byte order mark", "<165>1 2026-02-03T04:05:06.5Z host app 1 ID [a@1 k=\"v]\\\"\"][b@2] \xef\xbb\xbfhello",
			entry{"2026-02-03T04:05:06.5Z", "syslog", "info", "app", "hello"},
		},
		{
			"RFC 5424 with nothing but dashes", `<9>1 - - - - - - dark`,
			entry{"", "syslog", "error", "", "dark"},
		},
		{
			"syslog on disk with an ISO time", `2026-02-03T04:05:06.123456+02:00 host kernel: oom error`,
			entry{"2026-02-03T02:05:06.123456Z", "syslog", "error", "kernel", "oom error"},
		},
		{
			"a priority that is none", `<999>Feb  3 04:05:06 host app: x`,
			entry{"", "plain", "info", "", `<999>Feb  3 04:05:06 host app: x`},
		},
		// nginx
		{
			"access log, combined", `192.0.2.1 - bob [03/Feb/2026:04:05:06 +0100] "GET /a/7?q=x HTTP/1.1" 503 12 "-" "curl"`,
			entry{"2026-02-03T03:05:06Z", "nginx", "error", "503", "GET /a/7"},
		},
		{
			"access log of an IPv6 client", `2001:db8::1 - - [03/Feb/2026:04:05:06 +0000] "POST / HTTP/2.0" 404 0`,
			entry{"2026-02-03T04:05:06Z", "nginx", "warn", "404", "POST /"},
		},
		{
			"access log of a named client", `client.example - - [03/Feb/2026:04:05:06 +0000] "HEAD /x HTTP/2.0" 200 0`,
			entry{"2026-02-03T04:05:06Z", "nginx", "info", "200", "HEAD /x"},
		},
		{
			"access log of no request at all", `::1 - - [03/Feb/2026:04:05:06 +0000] "\x16\x03" 400 0 "-" "-"`,
			entry{"2026-02-03T04:05:06Z", "nginx", "warn", "400", `\x16\x03`},
		},
		{
			"nginx error log", `2026/02/03 04:05:06 [crit] 7#8: *99 open() failed (2: No such file), client: 192.0.2.1, server: _`,
			entry{"2026-02-03T04:05:06Z", "nginx", "error", "", "open() failed (2: No such file)"},
		},
		// plain
		{
			"plain with a level", `2026-02-03 04:05:06,789 WARN [main] disk is full`,
			entry{"2026-02-03T04:05:06.789Z", "plain", "warn", "", "WARN [main] disk is full"},
		},
		{
			"plain of Python, level in third place", `2026-02-03 04:05:06,789 - app - DEBUG - error not found`,
			entry{"2026-02-03T04:05:06.789Z", "plain", "debug", "", "app - DEBUG - error not found"},
		},
		{
			"plain in brackets with a channel", `[2026-02-03 04:05:06] app.ERROR: boom`,
			entry{"2026-02-03T04:05:06Z", "plain", "error", "", "app.ERROR: boom"},
		},
		{
			"plain of a database with its zone", `2026-02-03 04:05:06.789 UTC [12] LOG:  checkpoint failed`,
			entry{"2026-02-03T04:05:06.789Z", "plain", "info", "", "[12] LOG:  checkpoint failed"},
		},
		{
			"plain of Go, level guessed", `2026/02/03 04:05:06 http: panic serving`,
			entry{"2026-02-03T04:05:06Z", "plain", "error", "", "http: panic serving"},
		},
		{
			"no error is no error", `2026/02/03 04:05:06 done, no error`,
			entry{"2026-02-03T04:05:06Z", "plain", "info", "", "done, no error"},
		},
		{
			"a day that does not exist", `2026-02-31 04:05:06 x`,
			entry{"", "plain", "info", "", "2026-02-31 04:05:06 x"},
		},
		// the rest
		{
			"a part of a stack trace", "\tat java.lang.NullPointerException(x)",
			entry{"", "plain", "error", "", "at java.lang.NullPointerException(x)"},
		},
		{
			"a time that the file is too old for", `{"time":"2026-03-02T12:00:01Z","level":"error","msg":"from the future"}`,
			entry{"", "json", "error", "", "from the future"},
		},
		{
			"a time that the file is just not too old for", `{"time":"2026-03-02T12:00:00Z","level":"error","msg":"hi"}`,
			entry{"2026-03-02T12:00:00Z", "json", "error", "", "hi"},
		},
		{"nothing", " \t\x00", entry{"", "plain", "info", "", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := show(line.NewParser(time.UTC, written).Parse([]byte(tt.line), false))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(entry{})); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

// What was seen of an object before it was cut is used.
func TestParseCut(t *testing.T) {
	t.Parallel()
	p := line.NewParser(time.UTC, written)
	got := show(p.Parse([]byte(`{"time":"2026-02-03T04:05:06Z","level":"error","msg":"big","body":"xxxx`), true))
	want := entry{"2026-02-03T04:05:06Z", "json", "error", "", "big"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
}

// The zone holds for times that have none, and for those only.
func TestParseZone(t *testing.T) {
	t.Parallel()
	p := line.NewParser(time.FixedZone("", 3600), written)
	for in, want := range map[string]string{
		`2026-02-03 04:05:06 x`:               "2026-02-03T03:05:06Z",
		`2026-02-03T04:05:06Z x`:              "2026-02-03T04:05:06Z",
		`Feb  3 04:05:06 host app: x`:         "2026-02-03T03:05:06Z",
		`ts=2026-02-03T04:05:06-0700 level=i`: "2026-02-03T11:05:06Z",
	} {
		if got := show(p.Parse([]byte(in), false)).time; got != want {
			t.Errorf("Parse(%q): got time %s, want %s", in, got, want)
		}
	}
}

// The calendar agrees with that of package time, on every day there is.
func TestCalendar(t *testing.T) {
	t.Parallel()
	p := line.NewParser(time.UTC, time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC))
	days := 0
	for day := time.Unix(0, 0).UTC(); day.Year() <= 2200; day = day.AddDate(0, 0, 1) {
		e := p.Parse([]byte(day.Format("2006-01-02 15:04:05 x")), false)
		if !e.Dated || e.Time != day.UnixNano() {
			t.Fatalf("%v: got %d, want %d", day, e.Time, day.UnixNano())
		}
		days++
	}
	if days < 84000 {
		t.Errorf("got %d days, want 231 years of them", days)
	}
}

func TestParseLevel(t *testing.T) {
	t.Parallel()
	for l := range line.Levels {
		if got, ok := line.ParseLevel(l.String()); !ok || got != l {
			t.Errorf("ParseLevel(%q) = %v, %v", l.String(), got, ok)
		}
	}
	if _, ok := line.ParseLevel("fatal"); ok {
		t.Error("ParseLevel accepts a level that the contract does not have")
	}
}
