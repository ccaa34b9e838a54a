package rpc

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// copyMessage makes out equal to in, sharing nothing. Messages of different Go
// types, such as the dynamic ones that the executor sends to tools, go through
// their encoding, as they would over the network.
func copyMessage(out, in any) error {
	dst, ok := out.(proto.Message)
	if !ok {
		return notProto(out)
	}
	src, ok := in.(proto.Message)
	if !ok {
		return notProto(in)
	}
	if dst.ProtoReflect().Type() != src.ProtoReflect().Type() {
		b, err := proto.Marshal(src)
		if err != nil {
			return err
		}
		return proto.Unmarshal(b, dst)
	}
	proto.Reset(dst)
	proto.Merge(dst, src)
	return nil
}

func cloneMessage(in any) (proto.Message, error) {
	m, ok := in.(proto.Message)
	if !ok {
		return nil, notProto(in)
	}
	return proto.Clone(m), nil
}

// moveMessage is copyMessage for a message that nobody else holds: out may share
// its parts.
func moveMessage(out any, in proto.Message) error {
	dst, ok := out.(proto.Message)
	if !ok {
		return notProto(out)
	}
	if dst.ProtoReflect().Type() != in.ProtoReflect().Type() {
		return copyMessage(out, in)
	}
	proto.Reset(dst)
	to := dst.ProtoReflect()
	in.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		to.Set(f, v)
		return true
	})
	to.SetUnknown(in.ProtoReflect().GetUnknown())
	return nil
}
