package tool_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

func TestBuild(t *testing.T) {
	t.Parallel()
	image := func(edit func(*descriptorpb.FileDescriptorSet)) *descriptorpb.FileDescriptorSet {
		set := tooltest.Image(t, "sqlquery")
		edit(set)
		return set
	}
	tests := []struct {
		name string
		set  *descriptorpb.FileDescriptorSet
		want string // part of the error
	}{
		{"the shared files may be left out", image(func(*descriptorpb.FileDescriptorSet) {}), ""},
		{"the shared files may be there", image(func(s *descriptorpb.FileDescriptorSet) {
			s.File = append(s.File, protodesc.ToFileDescriptorProto(structpb.File_google_protobuf_struct_proto))
		}), ""},
		{"the shared files cannot be replaced", image(func(s *descriptorpb.FileDescriptorSet) {
			s.File = append(s.File, &descriptorpb.FileDescriptorProto{Name: new("google/protobuf/struct.proto")})
		}), ""},
		{"the shared names cannot be taken", image(func(s *descriptorpb.FileDescriptorSet) {
			s.File = append(s.File, &descriptorpb.FileDescriptorProto{
				Name: new("evil.proto"), Syntax: new("proto3"), Package: new("google"),
				MessageType: []*descriptorpb.DescriptorProto{{
					Name: new("protobuf"), NestedType: []*descriptorpb.DescriptorProto{{Name: new("Value")}},
				}},
			})
		}), "not its own"},
		{"no files", &descriptorpb.FileDescriptorSet{}, "0 files"},
		{"too many files", &descriptorpb.FileDescriptorSet{File: make([]*descriptorpb.FileDescriptorProto, 257)}, "257 files"},
		{"a missing import", image(func(s *descriptorpb.FileDescriptorSet) {
			s.File[0].Dependency = append(s.File[0].Dependency, "missing.proto")
		}), `"missing.proto" is missing`},
		{"a file of this program's own does not count", image(func(s *descriptorpb.FileDescriptorSet) {
			s.File[0].Dependency = append(s.File[0].Dependency, "sallyport/auth/v1/auth.proto")
		}), `is missing`},
		{"a file that imports itself", image(func(s *descriptorpb.FileDescriptorSet) {
			s.File[0].Dependency = append(s.File[0].Dependency, s.File[0].GetName())
		}), "imports itself"},
		{"a file twice", image(func(s *descriptorpb.FileDescriptorSet) { s.File = append(s.File, s.File[0]) }), "there twice"},
		{"a type that is not there", image(func(s *descriptorpb.FileDescriptorSet) {
			s.File[0].Service[0].Method[0].InputType = new(".nobody.Knows")
		}), "link"},
		{"too many bytes", image(func(s *descriptorpb.FileDescriptorSet) {
			s.File[0].SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{{
				LeadingComments: new(strings.Repeat("x", protoset.MaxBytes)),
			}}}
		}), "must be at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			set, err := protoset.Build(tt.set)
			if tt.want == "" {
				if err != nil || len(set.Services()) != 1 {
					t.Errorf("Build: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Build: %v, want %q", err, tt.want)
			}
		})
	}
}

// A set of files may be anything. What links is made into tools, or refused.
func FuzzBuild(f *testing.F) {
	for _, service := range tooltest.Services {
		raw, err := proto.Marshal(tooltest.Image(f, service))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		files := &descriptorpb.FileDescriptorSet{}
		if proto.Unmarshal(raw, files) != nil {
			return
		}
		set, err := protoset.Build(files)
		if err != nil {
			return
		}
		tools, _ := tool.Build("fuzz", set)
		for _, tl := range tools {
			if len(tl.Digest) != 32 || len(tl.Definition.GetInputSchema()) == 0 {
				t.Errorf("tool = %v", tl.Definition)
			}
			if _, _, err := tl.Decode([]byte(`{"a":1,"text":"x"}`)); err != nil {
				t.Logf("Decode: %v", err) // a rule that fails at run time
			}
		}
	})
}
