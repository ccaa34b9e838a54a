package wire

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on a multipart body.
const (
	// MaxFile is how large one file may be, in bytes: in base64 it is one string of
	// arguments, of which the edge takes 64 KiB.
	MaxFile = 48_000
	// MaxFileName is how long its name may be, in characters.
	MaxFileName = 128

	maxMultipart = 256 << 10
	maxPartName  = 256 // bytes
)

// Part is what a document says of one part of a multipart body. Of those that it says
// nothing of objects are sent as JSON, and all else as text.
type Part struct {
	Name string
	// File says that its value is an object: filename, and text or base64.
	File bool
	// Types are media types that it may be of, such as "image/png" or "image/*";
	// none for any.
	Types []string
}

// multipart writes an object as multipart/form-data, and returns that with its
// boundary. Members are parts in the order of their names, a list as many of the same
// name; files come after all others, which some servers insist on.
func (b *Body) multipart(raw json.RawMessage) ([]byte, string, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &members); err != nil || absent(raw) {
		return nil, "", errors.New("must be an object")
	}
	said := map[string]Part{}
	for _, p := range b.Parts {
		said[p.Name] = p
	}
	names := slices.Sorted(maps.Keys(members))
	slices.SortStableFunc(names, func(x, y string) int {
		rank := map[bool]int{true: 1}
		return rank[said[x].File] - rank[said[y].File]
	})
	var out bytes.Buffer
	w := multipart.NewWriter(&out) // its boundary is random
	parts := 0
	for _, name := range names {
		if absent(members[name]) {
			continue // a part cannot say null
		}
		if name == "" || len(name) > maxPartName || strings.ContainsFunc(name, unicode.IsControl) {
			return nil, "", errors.New("has a member whose name cannot be that of a part: 1 to 256 bytes without control characters")
		}
		values := []json.RawMessage{members[name]}
		if first(members[name]) == '[' {
			values = nil
			if err := json.Unmarshal(members[name], &values); err != nil {
				return nil, "", errors.New("is not JSON")
			}
		}
		for _, v := range values {
			if parts++; parts > maxKeys {
				return nil, "", errTooMany
			}
			write := writeField
			if said[name].File {
				write = writeFile
			}
			if err := write(w, name, said[name], v); err != nil {
				return nil, "", fmt.Errorf("%.64s: %w", name, err)
			}
			if out.Len() > maxMultipart {
				return nil, "", fmt.Errorf("is more than %d bytes", maxMultipart)
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	return out.Bytes(), w.FormDataContentType(), nil
}

// first is the first byte of a JSON value.
func first(raw json.RawMessage) byte {
	if raw = bytes.TrimSpace(raw); len(raw) > 0 {
		return raw[0]
	}
	return 0
}

func writeField(w *multipart.Writer, name string, said Part, raw json.RawMessage) error {
	header := textproto.MIMEHeader{"Content-Disposition": {fieldDisposition(name)}}
	if len(said.Types) == 1 && !strings.Contains(said.Types[0], "*") {
		header.Set("Content-Type", said.Types[0])
	}
	text := []byte(nil)
	switch kind := header.Get("Content-Type"); {
	case first(raw) == '{', first(raw) == '[', kind == "application/json", strings.HasSuffix(kind, "+json"):
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return errors.New("is not JSON")
		}
		text = b.Bytes()
		if kind == "" {
			header.Set("Content-Type", "application/json")
		}
	default:
		v, err := decode(raw)
		if err != nil {
			return err
		}
		one, err := scalar(v)
		if err != nil {
			return err
		}
		text = []byte(one)
	}
	return writePart(w, header, text)
}

func writeFile(w *multipart.Writer, name string, said Part, raw json.RawMessage) error {
	f := map[string]string{} // a struct would take names in other letters, too
	err := json.Unmarshal(raw, &f)
	text, isText := f["text"]
	encoded, isEncoded := f["base64"]
	if err != nil || isText == isEncoded {
		return errors.New("must be a file: an object with filename, and text or base64")
	}
	filename := cmp.Or(f["filename"], "file")
	if filename == "." || filename == ".." || utf8.RuneCountInString(filename) > MaxFileName ||
		strings.ContainsFunc(filename, func(r rune) bool { return unicode.IsControl(r) || r == '/' || r == '\\' || r == '"' }) {
		return fmt.Errorf("filename must be up to %d characters without slashes, quotes and control characters, and not a path", MaxFileName)
	}
	content := []byte(text)
	if isEncoded {
		if content, err = base64.StdEncoding.DecodeString(encoded); err != nil {
			return errors.New("base64 is not what it says: A-Z, a-z, 0-9, + and /, filled up with =")
		}
	}
	if len(content) > MaxFile {
		return fmt.Errorf("is a file of more than %d bytes", MaxFile)
	}
	kind, err := typeOf(content, said.Types)
	if err != nil {
		return err
	}
	return writePart(w, textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition(name, filename)}, "Content-Type": {kind},
	}, content)
}

// fieldDisposition is that of a part that is no file, written by the library.
func fieldDisposition(name string) string {
	d, _, _ := strings.Cut(multipart.FileContentDisposition(name, ""), "; filename=")
	return d
}

func writePart(w *multipart.Writer, header textproto.MIMEHeader, content []byte) error {
	p, err := w.CreatePart(header)
	if err != nil {
		return err
	}
	_, err = p.Write(content)
	return err
}

// typeOf is the media type of a file: the only one that it may be of, else what its
// bytes are by the rules of browsers, if it may be of that.
func typeOf(content []byte, may []string) (string, error) {
	if len(may) == 1 && !strings.Contains(may[0], "*") {
		return may[0], nil
	}
	is := http.DetectContentType(content)
	plain, _, err := mime.ParseMediaType(is)
	if err != nil {
		return "", err
	}
	if len(may) > 0 && !slices.ContainsFunc(may, func(m string) bool {
		family, any := strings.CutSuffix(m, "*")
		return m == plain || any && (m == "*/*" || strings.HasPrefix(plain, family))
	}) {
		return "", fmt.Errorf("is %.64s, and has to be %.256s", plain, strings.Join(may, " or "))
	}
	return is, nil
}
