// Package toolproto reads the contract of a tool service: its proto file, as its
// author wrote it, or a descriptor image that buf or protoc has made of it.
package toolproto

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"github.com/bufbuild/protocompile/reporter"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/sallyport-mcp/sallyport/pkg/protoset"
)

// Image is the contract of a tool service.
type Image struct {
	// Files are the service's own, with their comments: what it announces.
	Files *descriptorpb.FileDescriptorSet
	// Services are the gRPC services in them.
	Services []protoreflect.ServiceDescriptor
}

// Load reads a proto file, or a serialized google.protobuf.FileDescriptorSet if
// the name ends in .binpb. What the file imports is looked for in its folder and
// in include; google/protobuf, buf/validate and sallyport/tool need not be there.
// Mistakes are told with file, line and column.
func Load(ctx context.Context, file string, include ...string) (*Image, error) {
	read := compile
	if strings.HasSuffix(file, ".binpb") {
		read = unpack
	}
	files, err := read(ctx, file, include)
	if err != nil {
		return nil, err
	}
	set, err := protoset.Build(files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	image := &Image{Files: files, Services: set.Services()}
	if len(image.Services) == 0 {
		return nil, fmt.Errorf("%s: declares no service; a tool is an RPC of one", file)
	}
	return image, nil
}

// compile compiles a proto file.
func compile(ctx context.Context, file string, include []string) (*descriptorpb.FileDescriptorSet, error) {
	if _, err := bounded(file); err != nil {
		return nil, err
	}
	r := resolver{append([]string{filepath.Dir(file)}, include...)}
	var wrong mistakes
	compiler := protocompile.Compiler{
		Resolver:       protocompile.ResolverFunc(r.find),
		SourceInfoMode: protocompile.SourceInfoStandard,
		Reporter:       reporter.NewReporter(func(e reporter.ErrorWithPos) error { return wrong.add(r, e) }, nil),
	}
	linked, err := compiler.Compile(ctx, filepath.Base(file))
	if err = errors.Join(append(wrong, r.placed(err))...); err != nil {
		return nil, err
	}
	own := make(map[string]bool)
	set := new(descriptorpb.FileDescriptorSet)
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if own[f.Path()] || protoset.Shared(f.Path()) {
			return
		}
		own[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protoutil.ProtoFromFileDescriptor(f))
	}
	for _, f := range linked {
		add(f)
	}
	// The compiler has its own types for options; ours are found by a reading anew.
	raw, err := proto.Marshal(set)
	if err != nil {
		return nil, err
	}
	set = new(descriptorpb.FileDescriptorSet)
	return set, proto.Unmarshal(raw, set)
}

// maxMistakes is how many are told at a time.
const maxMistakes = 20

// mistakes are what is wrong with a file.
type mistakes []error

// add keeps a mistake. It returns an error when there are enough.
func (m *mistakes) add(r resolver, e reporter.ErrorWithPos) error {
	*m = append(*m, r.placed(e))
	if len(*m) == maxMistakes {
		return errors.New("there are more")
	}
	return nil
}

// resolver finds imports.
type resolver struct{ folders []string }

func (r resolver) find(path string) (protocompile.SearchResult, error) {
	if protoset.Shared(path) { // ours whoever else has one
		f, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			return protocompile.SearchResult{}, fmt.Errorf("%s: there is no such file", path)
		}
		return protocompile.SearchResult{Desc: f}, nil
	}
	file, ok := r.path(path)
	if !ok {
		return protocompile.SearchResult{}, fmt.Errorf("%s: not found in %s; say where it is with --include", path, strings.Join(r.folders, ", "))
	}
	raw, err := bounded(file)
	if err != nil {
		return protocompile.SearchResult{}, err
	}
	return protocompile.SearchResult{Source: bytes.NewReader(raw)}, nil
}

// placed is a mistake with the file as its author knows it.
func (r resolver) placed(err error) error {
	e, ok := errors.AsType[reporter.ErrorWithPos](err)
	switch {
	case errors.Is(err, reporter.ErrInvalidSource):
		return nil // they have been told
	case !ok:
		return err
	}
	at := e.GetPosition()
	if path, ok := r.path(at.Filename); ok {
		at.Filename = path
	}
	return fmt.Errorf("%s: %w", at, e.Unwrap())
}

// path returns the file of an import.
func (r resolver) path(name string) (string, bool) {
	for _, folder := range r.folders {
		file := filepath.Join(folder, filepath.FromSlash(name))
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, true
		}
	}
	return "", false
}

// unpack reads an image.
func unpack(_ context.Context, file string, _ []string) (*descriptorpb.FileDescriptorSet, error) {
	raw, err := bounded(file)
	if err != nil {
		return nil, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(raw, set); err != nil {
		return nil, fmt.Errorf("%s: is no serialized google.protobuf.FileDescriptorSet: %w", file, err)
	}
	set.File = slices.DeleteFunc(set.File, func(f *descriptorpb.FileDescriptorProto) bool { return protoset.Shared(f.GetName()) })
	return set, nil
}

// bounded reads a file of a size that a contract can have.
func bounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	raw, err := io.ReadAll(io.LimitReader(f, protoset.MaxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > protoset.MaxBytes {
		return nil, fmt.Errorf("%s: is larger than %d bytes", file, protoset.MaxBytes)
	}
	return raw, nil
}

// Whole returns the files with all that they import, imports first: what a
// server needs that has no generated code.
func (i *Image) Whole() *descriptorpb.FileDescriptorSet {
	have := make(map[string]bool)
	set := new(descriptorpb.FileDescriptorSet)
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if have[f.Path()] {
			return
		}
		have[f.Path()] = true
		for n := range f.Imports().Len() {
			add(f.Imports().Get(n).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	for _, s := range i.Services {
		add(s.ParentFile())
	}
	return set
}
