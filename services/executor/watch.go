package executor

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
)

// Watch implements [executorv1.ExecutorServiceServer]. Where the catalogue is not
// loaded yet the first message waits for it. An edge that is slow to take news
// hears less often, and of the same.
func (s *Service) Watch(_ *executorv1.WatchRequest, stream grpc.ServerStreamingServer[executorv1.WatchResponse]) error {
	updates := s.catalogue.Listen()
	defer updates.Close()
	var told *catalogue.Snapshot
	for {
		snap := s.catalogue.Current() // before the question below, not to miss the news
		if s.catalogue.Loaded() == nil {
			if news := changes(told, snap, updates.Take()); news != nil {
				if err := stream.Send(news); err != nil {
					return err
				}
			}
			told = snap
		}
		select {
		case <-snap.Superseded():
		case <-updates.News():
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// changes says what is new, or nothing if nothing is. The first snapshot is all
// new and no change.
func changes(before, now *catalogue.Snapshot, updated []string) *executorv1.WatchResponse {
	m := view(now)
	if before == nil {
		return m
	}
	m.ResourcesChanged = before.ResourcesVersion != now.ResourcesVersion
	m.PromptsChanged = before.PromptsVersion != now.PromptsVersion
	m.UpdatedUris = updated
	if proto.Equal(m, view(before)) {
		return nil
	}
	return m
}

func view(s *catalogue.Snapshot) *executorv1.WatchResponse {
	return &executorv1.WatchResponse{
		ToolsVersion: s.View, HasResources: s.HasResources, HasPrompts: s.HasPrompts, HasCompletion: s.HasCompletion,
	}
}
