package folder_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/folder"
)

func TestLines(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("x", 200_000)
	tests := []struct {
		name, content string
		limit         int64
		want          []string
		wantCut       bool
	}{
		{"nothing", "", 100, nil, false},
		{"lines", "a\nb\n", 100, []string{"a", "b"}, false},
		{"the last line may lack its end", "a\nb", 100, []string{"a", "b"}, false},
		{"empty lines are lines", "\n\na\n", 100, []string{"", "", "a"}, false},
		{"a byte order mark is no part of the first line", "\xef\xbb\xbfa\n", 100, []string{"a"}, false},
		{"the end of a file, without the line that was begun before", "aaaa\nbbb\ncc\n", 8, []string{"bbb", "cc"}, true},
		{"the end of a file, from the start of a line", "aaaa\nbbb\ncc\n", 7, []string{"bbb", "cc"}, true},
		{"the end of a file, in the middle of the last line", "aaaa\nbbb\n", 2, nil, true},
		{"a long line is cut", "a\n" + strings.Repeat("b", 300) + "\nc\n", 1000, []string{"a", strings.Repeat("b", 256) + "~", "c"}, false},
		{"a huge line is cut", "a\n" + huge + "\nc\n", 1 << 20, []string{"a", huge[:256] + "~", "c"}, false},
		{"a huge last line is cut", huge, 1 << 20, []string{huge[:256] + "~"}, false},
		{"a huge first line that was begun before is left out", huge + "\nc\n", 150_000, []string{"c"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, cut, err := lines(t, t.Context(), tt.content, tt.limit, 256)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || cut != tt.wantCut {
				t.Errorf("Lines: got cut %v, want %v (-want +got):\n%s", cut, tt.wantCut, diff)
			}
		})
	}
}

func TestNotText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content string
		want          error
	}{
		{"a program", "\x7fELF\x02\x01\x00\x00\x00", folder.ErrNotText},
		{"two bytes to a character", "h\x00i\x00\n\x00", folder.ErrNotText},
		{"noise", "\x80\xf3\x9d\x07\xe1\xbc\xff\x12\x03\x99", folder.ErrNotText},
		{"text in Latin-1", "caf\xe9 ferm\xe9, d\xe9sol\xe9 pour la g\xeane\n", nil},
		{"text in any script", "журнал 日志 📜\n", nil},
		{"colours", "\x1b[31mred\x1b[0m\n", nil},
		{"NULs at the start, left when a log was cut to nothing", strings.Repeat("\x00", 5000) + strings.Repeat("text\n", 1000), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := lines(t, t.Context(), tt.content, 1<<20, 256); !errors.Is(err, tt.want) {
				t.Errorf("Tail: got error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestLinesCanceled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, _, err := lines(t, ctx, "a\n", 100, 256)
	if !errors.Is(err, context.Canceled) || got != nil {
		t.Errorf("Lines: got %q and error %v", got, err)
	}
}

// FuzzLines holds that the lines of any text are what is between its line ends,
// each cut to size, however much of the text is read.
func FuzzLines(f *testing.F) {
	f.Add("a\nb\n\nccccccc", uint16(5), uint8(3))
	f.Add("\n\n\n", uint16(2), uint8(0))
	f.Add("abc", uint16(1), uint8(1))
	f.Fuzz(func(t *testing.T, content string, limit uint16, maxLine uint8) {
		got, cut, err := lines(t, t.Context(), content, 1+int64(limit), 1+int(maxLine))
		if errors.Is(err, folder.ErrNotText) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		rest := content
		if cut {
			// From the start of the last lines that fit.
			rest = content[len(content)-1-int(limit)-1:]
			_, rest, _ = strings.Cut(rest, "\n")
		}
		var want []string
		for i, w := range strings.SplitAfter(rest, "\n") {
			if w == "" {
				break // what is after the last line end
			}
			w = strings.TrimSuffix(w, "\n")
			if i == 0 && !cut {
				w = strings.TrimPrefix(w, "\xef\xbb\xbf")
			}
			if len(w) > 1+int(maxLine) {
				w = w[:1+int(maxLine)] + "~"
			}
			want = append(want, w)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Lines of %q (-want +got):\n%s", content, diff)
		}
	})
}
