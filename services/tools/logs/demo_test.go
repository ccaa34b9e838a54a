package logs_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/logs"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/demo"
)

var update = flag.Bool("update", false, "write the golden files")

// The summary of the demo logs is as a person once found it good.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "demo-logs")
	if err := demo.Seed(dir); err != nil {
		t.Fatal(err)
	}
	client := serve(t, configFor(dir))
	for golden, req := range map[string]*logsv1.SummarizeLogsRequest{
		"all.json":    {},
		"errors.json": {Level: "error", Since: "2026-11-02T14:00:00Z"},
		"auth.json":   {Source: "auth.log", Since: "6h"},
	} {
		t.Run(golden, func(t *testing.T) {
			got := indented(t, summarize(t, client, req))
			file := filepath.Join("testdata", golden)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("summary (-want +got):\n%s", diff)
			}
		})
	}
}

// indented writes a message the same way each time, which protojson does not.
func indented(t *testing.T, m *logsv1.SummarizeLogsResponse) []byte {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		t.Fatal(err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// FuzzSummarize holds for any files and any arguments that the summary keeps to
// its bounds and that making it again gives the same.
func FuzzSummarize(f *testing.F) {
	f.Add([]byte(dayLog), []byte("ts=2026-03-01T00:00:00Z level=error msg=x err=\"y\n"), "24h", uint8(0))
	f.Add([]byte("Mar  1 00:00:00 host app: \x1b[31mx\n<14>1 2026-03-01T00:00:00Z h a - - - x\n"),
		[]byte("192.0.2.1 - - [01/Mar/2026:00:00:00 +0000] \"GET /?a HTTP/1.1\" 500 1\n2026/03/01 00:00:00 [error] 1#1: x\n"), "7d", uint8(3))
	f.Add([]byte("1970-01-01 00:00:00 x\n2026-03-01 00:00:00 error\n\n\x00"), []byte("a\x01\xff"), "9999999w", uint8(1))
	f.Fuzz(func(t *testing.T, a, b []byte, since string, level uint8) {
		cfg := configFor(folderOf(t, map[string]string{"a.log": string(a), "b.log": string(b)}))
		cfg.MaxLine = 256
		svc, err := logs.New(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		req := &logsv1.SummarizeLogsRequest{Since: since, Level: []string{"", "debug", "info", "warn", "error"}[level%5]}
		first, err := svc.SummarizeLogs(t.Context(), req)
		if err != nil {
			return
		}
		check(t, first)
		again, err := svc.SummarizeLogs(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(indented(t, first), indented(t, again)); diff != "" {
			t.Errorf("the same files give another summary:\n%s", diff)
		}
	})
}

// BenchmarkSummarize reads sixty-four megabytes of the demo logs over and over. The
// throughput is of files; each byte is read twice.
func BenchmarkSummarize(b *testing.B) {
	seeded := filepath.Join(b.TempDir(), "demo-logs")
	if err := demo.Seed(seeded); err != nil {
		b.Fatal(err)
	}
	files := make(map[string]string)
	size := 0
	for _, name := range []string{"access.log", "app.log", "auth.log", "worker.log"} {
		content, err := os.ReadFile(filepath.Join(seeded, name))
		if err != nil {
			b.Fatal(err)
		}
		files[name] = strings.Repeat(string(content), (16<<20)/len(content))
		size += len(files[name])
	}
	svc, err := logs.New(configFor(folderOf(b, files)), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := svc.SummarizeLogs(b.Context(), &logsv1.SummarizeLogsRequest{Since: "9w"}); err != nil {
			b.Fatal(err)
		}
	}
}
