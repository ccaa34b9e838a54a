// Package tooltest has descriptor images of tool services for the executor's
// tests: the first four services, and "kitchen" with one of everything that a
// message can have.
//
// The images are what toolkit announces. They are made at the top of the
// repository with
//
//	buf build --exclude-imports --path proto/sallyport/tools/NAME -o testdata/NAME.binpb
//
// and kitchen's in the same way from a copy of proto/ that has kitchen.proto as
// kitchen/v1/kitchen.proto.
package tooltest

import (
	"embed"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sallyport-mcp/sallyport/pkg/protoset"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tool"
)

//go:embed testdata/*.binpb
var images embed.FS

// Services are the names of all images.
var Services = []string{"basics", "customers", "kitchen", "logs", "sqlquery"}

// Image returns the files of a service, comments included.
func Image(t testing.TB, service string) *descriptorpb.FileDescriptorSet {
	t.Helper()
	raw, err := images.ReadFile("testdata/" + service + ".binpb")
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		t.Fatal(err)
	}
	return set
}

// Tools returns the tools of a service by name.
func Tools(t testing.TB, service string) map[string]*tool.Tool {
	t.Helper()
	set, err := protoset.Build(Image(t, service))
	if err != nil {
		t.Fatal(err)
	}
	tools, refused := tool.Build(service, set)
	for _, err := range refused {
		t.Error(err)
	}
	byName := make(map[string]*tool.Tool)
	for _, tl := range tools {
		byName[tl.Name()] = tl
	}
	return byName
}
