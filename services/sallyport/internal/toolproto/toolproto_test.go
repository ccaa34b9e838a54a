package toolproto_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"

	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/toolproto"
)

const good = `syntax = "proto3";
package a.v1;
import "more/b.proto";
import "buf/validate/validate.proto";
import "google/protobuf/timestamp.proto";
import "sallyport/tool/v1/tool.proto";
service S {
  // Does it.
  rpc Do(B) returns (google.protobuf.Timestamp) { option (sallyport.tool.v1.tool) = {risk: RISK_READ}; }
}
message A { string x = 1 [(buf.validate.field).string.max_len = 3]; }
`

const imported = `syntax = "proto3";
package a.v1;
message B {}
`

// write writes files into a folder of the test's.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func paths(i *toolproto.Image, whole bool) (all []string) {
	set := i.Files
	if whole {
		set = i.Whole()
	}
	for _, f := range set.GetFile() {
		all = append(all, f.GetName())
	}
	return all
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := write(t, map[string]string{"a.proto": good, "lib/more/b.proto": imported})
	i, err := toolproto.Load(t.Context(), filepath.Join(dir, "a.proto"), filepath.Join(dir, "lib"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"more/b.proto", "a.proto"}, paths(i, false)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	rpc := i.Services[0].Methods().Get(0)
	if got := rpc.ParentFile().SourceLocations().ByDescriptor(rpc).LeadingComments; got != " Does it.\n" {
		t.Errorf("the comment is %q", got)
	}
	// The whole can be linked by somebody who has nothing of it.
	whole := i.Whole()
	if _, err := protodesc.NewFiles(whole); err != nil {
		t.Error(err)
	}
	have := make(map[string]bool)
	for _, f := range whole.GetFile() {
		for _, dep := range f.GetDependency() {
			if !have[dep] {
				t.Errorf("%s comes before %s, which it imports", f.GetName(), dep)
			}
		}
		have[f.GetName()] = true
	}

	// An image is as good as the source, with imports or without.
	for _, set := range []proto.Message{i.Files, whole} {
		raw, err := proto.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "a.binpb")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := toolproto.Load(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(paths(i, false), paths(again, false)); diff != "" {
			t.Errorf("files of the image (-want +got):\n%s", diff)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		files      map[string]string
		want       []string // parts of the error
	}{
		{"no file", "a.proto", nil, []string{"open DIR/a.proto: no such file"}},
		{"an import that is not there", "a.proto", map[string]string{"a.proto": good}, []string{"DIR/a.proto:3:8: ", "more/b.proto: not found in DIR; say where it is with --include"}},
		{
			"several mistakes", "a.proto",
			map[string]string{"a.proto": "syntax = \"proto3\";\nmessage A { strng a = 1; }\nmessage B { nothing b = 1; }"},
			[]string{"DIR/a.proto:2:13: ", "strng", "DIR/a.proto:3:13: ", "nothing"},
		},
		{
			"a mistake in an import", "a.proto",
			map[string]string{"a.proto": good, "more/b.proto": "syntax = \"proto3\";\n!"},
			[]string{"DIR/more/b.proto:2:1: "},
		},
		{"no service", "a.proto", map[string]string{"a.proto": imported}, []string{"DIR/a.proto: declares no service"}},
		{"a file that is not for us", "a.proto", map[string]string{
			"a.proto": `syntax = "proto3"; import "sallyport/tool/v2/tool.proto";`, "sallyport/tool/v2/tool.proto": imported,
		}, []string{"sallyport/tool/v2/tool.proto: there is no such file"}},
		{"too large", "a.proto", map[string]string{"a.proto": strings.Repeat("//\n", 2<<20)}, []string{"a.proto: is larger than 4194304 bytes"}},
		{"an image that is none", "a.binpb", map[string]string{"a.binpb": "syntax"}, []string{"DIR/a.binpb: is no serialized google.protobuf.FileDescriptorSet"}},
		{"an empty image", "a.binpb", map[string]string{"a.binpb": ""}, []string{"DIR/a.binpb: 0 files"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, tt.files)
			_, err := toolproto.Load(t.Context(), filepath.Join(dir, tt.file))
			if err == nil {
				t.Fatal("it was read")
			}
			for _, part := range tt.want {
				if got := strings.ReplaceAll(err.Error(), dir, "DIR"); !strings.Contains(got, part) {
					t.Errorf("got %q, want %q in it", got, part)
				}
			}
		})
	}
}

// Whatever is written in a file, it is read or refused.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(good), false)
	f.Add([]byte(imported), false)
	f.Add([]byte("\n\x07a.proto"), true)
	f.Fuzz(func(t *testing.T, text []byte, image bool) {
		file := filepath.Join(t.TempDir(), "a.proto")
		if image {
			file = filepath.Join(t.TempDir(), "a.binpb")
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		i, err := toolproto.Load(t.Context(), file)
		if err == nil && len(i.Whole().GetFile()) == 0 {
			t.Error("nothing was read")
		}
	})
}
