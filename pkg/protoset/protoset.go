// Package protoset makes descriptors of what a tool service says of itself: a
// set of files that it announces, or that its reflection service answers with.
//
// The set comes from another process and may be anything. It is bounded, it
// cannot replace the files that Sallyport itself relies on, and what does not
// link is an error.
package protoset

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	_ "google.golang.org/protobuf/types/known/anypb"       // files that sets may leave out
	_ "google.golang.org/protobuf/types/known/durationpb"  // files that sets may leave out
	_ "google.golang.org/protobuf/types/known/emptypb"     // files that sets may leave out
	_ "google.golang.org/protobuf/types/known/fieldmaskpb" // files that sets may leave out
	_ "google.golang.org/protobuf/types/known/structpb"    // files that sets may leave out
	_ "google.golang.org/protobuf/types/known/timestamppb" // files that sets may leave out
	_ "google.golang.org/protobuf/types/known/wrapperspb"  // files that sets may leave out

	_ "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1" // files that sets may leave out
)

// Bounds on a set.
const (
	MaxFiles = 256
	MaxBytes = 4 << 20
)

// Set is a set of files that link.
type Set struct {
	files []protoreflect.FileDescriptor // the announced ones, imports first
}

// Build links a set. Files that everybody shares (google/protobuf, buf/validate
// and sallyport/tool) are always ours, whether the set has them or not; all
// others must be in the set.
func Build(set *descriptorpb.FileDescriptorSet) (s *Set, err error) {
	// The linker is written for files that a compiler has checked. A set that
	// makes it panic must cost the sender its tools, not everybody the process.
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("link files: panic: %v", p)
		}
	}()
	if n := len(set.GetFile()); n == 0 || n > MaxFiles {
		return nil, fmt.Errorf("%d files: must be 1 to %d", n, MaxFiles)
	}
	if size := proto.Size(set); size > MaxBytes {
		return nil, fmt.Errorf("files of %d bytes: must be at most %d", size, MaxBytes)
	}
	l := linker{
		given:   make(map[string]*descriptorpb.FileDescriptorProto),
		linking: make(map[string]bool),
		local:   new(protoregistry.Files),
	}
	for _, f := range set.GetFile() {
		if Shared(f.GetName()) {
			continue
		}
		if l.given[f.GetName()] != nil {
			return nil, fmt.Errorf("file %q is there twice", f.GetName())
		}
		l.given[f.GetName()] = f
	}
	for _, f := range set.GetFile() {
		if Shared(f.GetName()) {
			continue
		}
		if err := l.link(f.GetName()); err != nil {
			return nil, err
		}
	}
	return &Set{files: l.linked}, nil
}

// Services returns all services of the set.
func (s *Set) Services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, f := range s.files {
		for i := range f.Services().Len() {
			all = append(all, f.Services().Get(i))
		}
	}
	return all
}

// Shared reports whether a file is one that Sallyport has and relies on.
func Shared(path string) bool {
	return strings.HasPrefix(path, "google/protobuf/") ||
		strings.HasPrefix(path, "buf/validate/") ||
		strings.HasPrefix(path, "sallyport/tool/")
}

type linker struct {
	given   map[string]*descriptorpb.FileDescriptorProto
	linking map[string]bool
	local   *protoregistry.Files
	linked  []protoreflect.FileDescriptor
}

func (l *linker) link(path string) error {
	if _, err := l.local.FindFileByPath(path); err == nil {
		return nil
	}
	f := l.given[path]
	if f == nil {
		return fmt.Errorf("file %q is missing", path)
	}
	if l.linking[path] {
		return fmt.Errorf("file %q imports itself", path)
	}
	l.linking[path] = true
	for _, dep := range f.GetDependency() {
		if Shared(dep) {
			continue
		}
		if err := l.link(dep); err != nil {
			return err
		}
	}
	desc, err := protodesc.NewFile(f, l)
	if err != nil {
		return fmt.Errorf("link %q: %w", path, err)
	}
	if err := l.local.RegisterFile(desc); err != nil {
		return fmt.Errorf("link %q: %w", path, err)
	}
	if name := usurped(desc.Messages()); name != "" {
		return fmt.Errorf("file %q declares %s, which is not its own", path, name)
	}
	l.linked = append(l.linked, desc)
	return nil
}

// usurped returns a message that bears a name of the shared files, such as
// google.protobuf.Struct in a file of another name. Much code knows those by
// name alone and would take it for the real one.
func usurped(messages protoreflect.MessageDescriptors) protoreflect.FullName {
	for i := range messages.Len() {
		m := messages.Get(i)
		for _, prefix := range []string{"google.protobuf.", "buf.validate.", "sallyport.tool.v1."} {
			if strings.HasPrefix(string(m.FullName()), prefix) {
				return m.FullName()
			}
		}
		if name := usurped(m.Messages()); name != "" {
			return name
		}
	}
	return ""
}

// FindFileByPath implements [protodesc.Resolver].
func (l *linker) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if Shared(path) {
		return protoregistry.GlobalFiles.FindFileByPath(path)
	}
	return l.local.FindFileByPath(path)
}

// FindDescriptorByName implements [protodesc.Resolver]. Names that only this
// program happens to know do not count.
func (l *linker) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	d, err := l.local.FindDescriptorByName(name)
	if !errors.Is(err, protoregistry.NotFound) {
		return d, err
	}
	d, err = protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	if !Shared(d.ParentFile().Path()) {
		return nil, protoregistry.NotFound
	}
	return d, nil
}
