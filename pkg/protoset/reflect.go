package protoset

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Reflect asks a server for the files of all its services, by gRPC server
// reflection v1. Reflection knows no comments, so tools found in this way have
// no descriptions. The context must have a deadline.
func Reflect(ctx context.Context, conn grpc.ClientConnInterface) (*descriptorpb.FileDescriptorSet, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, fmt.Errorf("open reflection: %w", err)
	}
	q := &query{stream: stream, files: make(map[string]*descriptorpb.FileDescriptorProto)}
	listed, err := q.ask(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	for _, s := range listed.GetListServicesResponse().GetService() {
		if strings.HasPrefix(s.GetName(), "grpc.") {
			continue
		}
		answer, err := q.ask(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: s.GetName()},
		})
		if err != nil {
			return nil, fmt.Errorf("ask for %s: %w", s.GetName(), err)
		}
		if err := q.take(answer); err != nil {
			return nil, err
		}
	}
	if err := q.complete(); err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, name := range q.order {
		set.File = append(set.File, q.files[name])
	}
	return set, nil
}

type query struct {
	stream reflectionv1.ServerReflection_ServerReflectionInfoClient
	files  map[string]*descriptorpb.FileDescriptorProto
	order  []string
	size   int
}

func (q *query) ask(req *reflectionv1.ServerReflectionRequest) (*reflectionv1.ServerReflectionResponse, error) {
	if err := q.stream.Send(req); err != nil {
		return nil, err
	}
	resp, err := q.stream.Recv()
	if err != nil {
		return nil, err
	}
	if e := resp.GetErrorResponse(); e != nil {
		return nil, fmt.Errorf("reflection answered with code %d", e.GetErrorCode())
	}
	return resp, nil
}

func (q *query) take(resp *reflectionv1.ServerReflectionResponse) error {
	for _, raw := range resp.GetFileDescriptorResponse().GetFileDescriptorProto() {
		if q.size += len(raw); q.size > MaxBytes {
			return fmt.Errorf("files of more than %d bytes", MaxBytes)
		}
		f := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(raw, f); err != nil {
			return fmt.Errorf("read file: %w", err)
		}
		if q.files[f.GetName()] != nil {
			continue
		}
		if len(q.files) >= MaxFiles {
			return fmt.Errorf("more than %d files", MaxFiles)
		}
		q.files[f.GetName()] = f
		q.order = append(q.order, f.GetName())
	}
	return nil
}

// complete asks for imports that the server did not send along.
func (q *query) complete() error {
	for i := 0; i < len(q.order); i++ {
		for _, dep := range q.files[q.order[i]].GetDependency() {
			if Shared(dep) || q.files[dep] != nil {
				continue
			}
			answer, err := q.ask(&reflectionv1.ServerReflectionRequest{
				MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: dep},
			})
			if err != nil {
				return fmt.Errorf("ask for file %q: %w", dep, err)
			}
			if err := q.take(answer); err != nil {
				return err
			}
			if q.files[dep] == nil {
				return fmt.Errorf("file %q was not sent", dep)
			}
		}
	}
	return nil
}
