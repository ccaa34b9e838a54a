package logs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/pkg/rpc/rpctest"
	"github.com/sallyport-mcp/sallyport/services/tools/logs"
)

// written is when all log files of these tests were written last.
var written = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// dayLog has a line of each level every six hours of two days.
const dayLog = `{"time":"2026-02-27T18:00:00Z","level":"error","msg":"too old"}
{"time":"2026-02-28T06:00:00Z","level":"debug","msg":"one"}
{"time":"2026-02-28T12:00:00Z","level":"info","msg":"two"}
{"time":"2026-02-28T18:00:00Z","level":"warn","msg":"three"}
	a line without a time
{"time":"2026-03-01T00:00:00Z","level":"error","msg":"four"}
`

func TestSummarizeLogs(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"day.log":  dayLog,
		"late.log": "2026-03-01T05:59:59Z INFO late\n",
		"old.gz":   "x",
		"bin.log":  "\x00\x01",
	}
	tests := []struct {
		name string
		req  *logsv1.SummarizeLogsRequest

		wantLines  int32
		want       []string // templates, errors first, then by text
		wantCode   codes.Code
		wantReason fault.Reason
		wantText   string // in the message
	}{{
		name:      "without arguments, 24 hours back from the newest line of all files",
		req:       &logsv1.SummarizeLogsRequest{},
		wantLines: 6,
		want:      []string{"four", "INFO late", "a line without a time", "one", "three", "two"},
	}, {
		name:      "one file, 24 hours back from its own newest line",
		req:       &logsv1.SummarizeLogsRequest{Source: "day.log"},
		wantLines: 5,
		want:      []string{"four", "a line without a time", "one", "three", "two"},
	}, {
		name:      "hours, to the second",
		req:       &logsv1.SummarizeLogsRequest{Source: "day.log", Since: "12h"},
		wantLines: 4,
		want:      []string{"four", "a line without a time", "three", "two"},
	}, {
		name:      "an undated line is as old as the one before",
		req:       &logsv1.SummarizeLogsRequest{Source: "day.log", Since: "21599s"},
		wantLines: 1,
		want:      []string{"four"},
	}, {
		name:      "days",
		req:       &logsv1.SummarizeLogsRequest{Source: "day.log", Since: "2d"},
		wantLines: 6,
		want:      []string{"four", "too old", "a line without a time", "one", "three", "two"},
	}, {
		name:      "a span longer than can be reckoned with covers everything, and does not wrap to minutes",
		req:       &logsv1.SummarizeLogsRequest{Source: "day.log", Since: "616385997w"},
		wantLines: 6,
		want:      []string{"four", "too old", "a line without a time", "one", "three", "two"},
	}, {
		name:      "from a moment on, in any zone",
		req:       &logsv1.SummarizeLogsRequest{Source: "day.log", Since: "2026-02-28T19:00:00+01:00"},
		wantLines: 3,
		want:      []string{"four", "a line without a time", "three"},
	}, {
		name: "from a moment in the future on",
		req:  &logsv1.SummarizeLogsRequest{Since: "9999-01-01T00:00:00Z"},
	}, {
		name:      "from before all times on",
		req:       &logsv1.SummarizeLogsRequest{Source: "day.log", Since: "0001-01-01T00:00:00Z"},
		wantLines: 6,
		want:      []string{"four", "too old", "a line without a time", "one", "three", "two"},
	}, {
		name:      "warnings and worse",
		req:       &logsv1.SummarizeLogsRequest{Source: "day.log", Level: "warn"},
		wantLines: 2,
		want:      []string{"four", "three"},
	}, {
		name:      "errors alone",
		req:       &logsv1.SummarizeLogsRequest{Level: "error", Since: "9d"},
		wantLines: 2,
		want:      []string{"four", "too old"},
	}, {
		name:       "a file that is not there",
		req:        &logsv1.SummarizeLogsRequest{Source: "app.log"},
		wantCode:   codes.NotFound,
		wantReason: logsv1.Reason_REASON_SOURCE_UNKNOWN,
		wantText:   "there is no log file app.log; there are: bin.log, day.log, late.log",
	}, {
		name:       "a file that is not read",
		req:        &logsv1.SummarizeLogsRequest{Source: "old.gz"},
		wantCode:   codes.NotFound,
		wantReason: logsv1.Reason_REASON_SOURCE_UNKNOWN,
		wantText:   "old.gz is not read: compressed",
	}, {
		name:       "a file that is not text",
		req:        &logsv1.SummarizeLogsRequest{Source: "bin.log"},
		wantCode:   codes.FailedPrecondition,
		wantReason: logsv1.Reason_REASON_UNREADABLE,
		wantText:   "bin.log is not a text file",
	}, {
		name:     "a name that leads elsewhere",
		req:      &logsv1.SummarizeLogsRequest{Source: "../day.log"},
		wantCode: codes.InvalidArgument,
	}, {
		name:     "a level that is none",
		req:      &logsv1.SummarizeLogsRequest{Level: "fatal"},
		wantCode: codes.InvalidArgument,
	}}
	for _, since := range []string{"x", "h", "0h", "-1h", "1.5h", "24", "1H", "1 h", "4294967296s", "2026-01-02", "24h ", "１h", "5mo"} {
		tests = append(tests, tests[0])
		bad := &tests[len(tests)-1]
		bad.name, bad.req = "a span that is none: "+since, &logsv1.SummarizeLogsRequest{Since: since}
		bad.wantCode, bad.wantReason = codes.InvalidArgument, logsv1.Reason_REASON_SINCE
		bad.wantText = `"since" must be a span such as "15m", "24h" or "7d", or a moment such as "2026-01-02T15:04:05Z"`
	}
	client := serve(t, configFor(folderOf(t, files)))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := client.SummarizeLogs(t.Context(), tt.req)
			if status.Code(err) != tt.wantCode {
				t.Fatalf("SummarizeLogs: got error %v, want code %v", err, tt.wantCode)
			}
			if tt.wantReason != nil && !fault.Is(fault.Receive(err), tt.wantReason) {
				t.Errorf("SummarizeLogs: got error %v, want reason %v", err, tt.wantReason)
			}
			if tt.wantText != "" && status.Convert(err).Message() != tt.wantText {
				t.Errorf("SummarizeLogs: got message %q, want %q", status.Convert(err).Message(), tt.wantText)
			}
			if err != nil {
				return
			}
			check(t, got)
			var templates []string
			for _, tpl := range got.GetTemplates() {
				templates = append(templates, tpl.GetTemplate())
			}
			if diff := cmp.Diff(tt.want, templates); diff != "" || got.GetLines() != tt.wantLines {
				t.Errorf("SummarizeLogs: got %d lines, want %d; templates (-want +got):\n%s", got.GetLines(), tt.wantLines, diff)
			}
		})
	}
}

func TestFolders(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(folderOf(t, map[string]string{"secret.log": "top secret\n"}), "secret.log")
	tests := []struct {
		name  string
		files map[string]string
		prep  func(dir string) error

		wantCode codes.Code
		want     string // the summary
	}{{
		name: "an empty folder",
		want: "There are no log files to read.",
	}, {
		name:     "no folder",
		prep:     os.Remove,
		wantCode: codes.FailedPrecondition,
		want:     "the folder of log files cannot be read",
	}, {
		name: "a file in its place",
		prep: func(dir string) error {
			return errors.Join(os.Remove(dir), os.WriteFile(dir, []byte("x"), 0o644))
		},
		wantCode: codes.FailedPrecondition,
		want:     "the folder of log files cannot be read",
	}, {
		name:  "a link that leads out of the folder is named and not followed",
		files: map[string]string{"a.log": "hello\n"},
		prep:  func(dir string) error { return os.Symlink(outside, filepath.Join(dir, "link.log")) },
		want:  "1 line in 1 file: 0 errors, 0 warnings, 1 info line, 0 debug lines. 1 line had no time or could not be understood. Not read: “link.log” (a link).",
	}, {
		name:  "names of strangers are cleaned and counted",
		files: map[string]string{"a\x1b[31m”.log": "", "b c": "", "c.gz": "", "d.gz": "", "e.zip": "", "f.xz": "", "g.zst": ""},
		want:  "There are no log files to read. Not read: “a'.log” (its name is not plain), “b c” (its name is not plain), “c.gz” (compressed), “d.gz” (compressed), “e.zip” (compressed), 2 more.",
	}, {
		name:  "an empty file",
		files: map[string]string{"a.log": ""},
		want:  "No lines in 1 file match.",
	}, {
		name:  "blank lines are no lines",
		files: map[string]string{"a.log": "\n \n\t\r\n"},
		want:  "No lines in 1 file match.",
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := folderOf(t, tt.files)
			if tt.prep != nil {
				if err := tt.prep(dir); err != nil {
					t.Fatal(err)
				}
			}
			got, err := serve(t, configFor(dir)).SummarizeLogs(t.Context(), &logsv1.SummarizeLogsRequest{})
			if status.Code(err) != tt.wantCode {
				t.Fatalf("SummarizeLogs: got error %v, want code %v", err, tt.wantCode)
			}
			if err != nil {
				if !fault.Is(fault.Receive(err), logsv1.Reason_REASON_UNREADABLE) || status.Convert(err).Message() != tt.want {
					t.Errorf("SummarizeLogs: got error %v, want %q", err, tt.want)
				}
				return
			}
			check(t, got)
			if got.GetSummary() != tt.want {
				t.Errorf("got summary\n%s\nwant\n%s", got.GetSummary(), tt.want)
			}
		})
	}
}

// A caller who is gone is not worked for.
func TestCanceled(t *testing.T) {
	t.Parallel()
	svc, err := logs.New(configFor(folderOf(t, map[string]string{"day.log": dayLog})), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := svc.SummarizeLogs(ctx, &logsv1.SummarizeLogsRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("SummarizeLogs: got error %v, want %v", err, context.Canceled)
	}
}

// Summaries that must wait for their turn are made all the same.
func TestParallel(t *testing.T) {
	t.Parallel()
	cfg := configFor(folderOf(t, map[string]string{"day.log": dayLog}))
	cfg.MaxParallel = 1
	client := serve(t, cfg)
	done := make(chan error)
	for range 8 {
		go func() {
			_, err := client.SummarizeLogs(t.Context(), &logsv1.SummarizeLogsRequest{})
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Errorf("SummarizeLogs: got error %v", err)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := logs.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
	err := logs.Config{Zone: "Atlantis/Capital"}.Validate()
	for _, field := range []string{"zone", "max_bytes_per_file", "max_total_bytes", "max_line", "max_files", "max_templates", "max_parallel"} {
		if err == nil || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("Validate: got %v, want a word about %s", err, field)
		}
	}
	if _, err := logs.New(logs.Config{}, nil); err == nil {
		t.Error("New takes a configuration that is not valid")
	}
}

func TestReady(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	svc, err := logs.New(configFor(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Ready(t.Context()); err != nil {
		t.Errorf("Ready: got error %v", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := svc.Ready(t.Context()); err == nil {
		t.Error("Ready: got no error without a folder")
	}
}

func configFor(dir string) logs.Config {
	cfg := logs.DefaultConfig()
	cfg.Dir = dir
	return cfg
}

func serve(t testing.TB, cfg logs.Config) logsv1.LogsServiceClient {
	t.Helper()
	svc, err := logs.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	return logsv1.NewLogsServiceClient(rpctest.Serve(t, svc.Register, rpctest.As("executor")))
}

// folderOf makes a folder of files that were all written at the same time.
func folderOf(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
