package strictjson_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "embed" // for the suite
	"errors"
	"io"
	"path"
	"strings"
	"testing"
)

// JSONTestSuite by Nicolas Seriot, github.com/nst/JSONTestSuite, MIT license, which is inside.
//
//go:embed testdata/JSONTestSuite.tar.gz
var archive []byte

// suite returns the files of JSONTestSuite by name: y_ must be accepted by
// parsers, n_ must be refused, and i_ may be either.
func suite(t testing.TB) map[string][]byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]byte)
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutSuffix(path.Base(h.Name), ".json"); ok {
			if out[name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// stricter are the files that any parser must accept and this one does not:
// names twice, which parsers resolve in different ways, and a number of 80
// digits.
var stricter = map[string]bool{
	"y_object_duplicated_key": true, "y_object_duplicated_key_and_value": true, "y_number_double_close_to_zero": true,
}

// either are the files of which parsers may do as they like, and that are
// accepted: small numbers that are zero to floating point, and large ones, which
// are exact here.
var either = map[string]bool{
	"i_number_double_huge_neg_exp": true, "i_number_real_underflow": true, "i_number_too_big_neg_int": true,
	"i_number_too_big_pos_int": true,
}

func TestSuite(t *testing.T) {
	t.Parallel()
	files := suite(t)
	for name, text := range files {
		want := name[0] == 'y' && !stricter[name] || either[name]
		if got := agree(t, text); got != want {
			t.Errorf("%s: accepted %v, want %v: %.100q", name, got, want, text)
		}
	}
	if len(files) < 300 {
		t.Errorf("the suite has %d files", len(files))
	}
}
