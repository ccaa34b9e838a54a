package secret_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mcp/sallyport/pkg/secret"
)

func TestReadText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       string // "": an error
	}{
		{"as it is", "s3cret word", "s3cret word"},
		{"without the newline at its end", "s3cret\r\n", "s3cret"},
		{"nothing", "\n", ""},
		{"two lines", "s3cret\nword\n", ""},
		{"a control character", "s3cret\x00", ""},
		{"too long", strings.Repeat("s3cret", 4<<10), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := secret.ReadText(path)
			if got != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error %q tells the secret", err)
			}
		})
	}
	if _, err := secret.ReadText(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("no file: got no error")
	}
}
