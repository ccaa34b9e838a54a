package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// maxText is more than any token, password or header needs.
const maxText = 16 << 10

// ReadText reads a secret that somebody else has made, such as a password: one line,
// without the newline that editors put at its end. The errors hold nothing of it.
// Files are small: read one each time its text is needed, and whoever replaces it
// need tell nobody.
func ReadText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	b = bytes.TrimRight(b, "\r\n")
	switch {
	case len(b) == 0:
		return "", fmt.Errorf("%s is empty", path)
	case len(b) > maxText:
		return "", fmt.Errorf("%s is larger than %d bytes", path, maxText)
	case bytes.ContainsFunc(b, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }):
		return "", fmt.Errorf("%s holds control characters", path)
	}
	return string(b), nil
}
