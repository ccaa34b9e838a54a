package words_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/words"
)

// list writes what is found as "id:start-end".
func list(w *words.Words, text string) (all []string) {
	w.Each(text, func(id, start, end int) bool {
		all = append(all, fmt.Sprintf("%d:%d-%d", id, start, end))
		return true
	})
	return all
}

func TestWordsWithinWordsAreFound(t *testing.T) {
	t.Parallel()
	w := words.New(map[string][]int{"he": {1}, "she": {2}, "hers": {3, 4}, "key": {5}})
	for text, want := range map[string][]string{
		"usHErs":      {"2:1-4", "1:2-4", "3:2-6", "4:2-6"},
		"h-e k.e.y":   nil,
		"keykey":      {"5:0-3", "5:3-6"},
		"\xffkey\x00": {"5:1-4"},
		"":            nil,
	} {
		if diff := cmp.Diff(want, list(w, text)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
		if w.Any(text) != (want != nil) {
			t.Errorf("%q: Any is %v", text, want == nil)
		}
	}
}

// FuzzEach compares with a search for each keyword alone.
func FuzzEach(f *testing.F) {
	f.Add("ushers SHE", "he,she,hers")
	f.Fuzz(func(t *testing.T, text, joined string) {
		if len(text) > 1000 || len(joined) > 200 {
			return
		}
		all := make(map[string][]int)
		want := 0
		for i, k := range strings.Split(joined, ",") {
			ascii := strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
			if k == "" || !ascii || all[k] != nil {
				continue
			}
			all[k] = []int{i}
			for at := range len(text) - len(k) + 1 {
				if asciiFold(text[at:at+len(k)]) == k {
					want++
				}
			}
		}
		if got := len(list(words.New(all), text)); got != want {
			t.Errorf("%q in %q: found %d, want %d", joined, text, got, want)
		}
	})
}

func asciiFold(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
