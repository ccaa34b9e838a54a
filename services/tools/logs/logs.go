// Package logs is the tool service that tells what is in log files without
// sending them whole: how many lines of which level, which kinds of message, and
// when errors peaked.
//
// It reads regular files of one configured folder, bounded in every direction,
// and writes nothing. It holds whatever the lines say for text by strangers:
// what leaves the service is cleaned of invisible characters and of secrets, and
// only ever quoted.
package logs

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/clean"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/folder"
)

// Service summarizes log files. Its methods are safe for concurrent use.
type Service struct {
	logsv1.UnimplementedLogsServiceServer

	cfg    Config
	zone   *time.Location
	masker *clean.Masker
	log    *slog.Logger
	slots  chan struct{} // one for each summary being made
}

// New returns a service that reads the folder that cfg names. The folder may be
// absent for now: it is opened for each call. A nil log discards.
func New(cfg Config, log *slog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(cfg.Zone)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		cfg:    cfg,
		zone:   zone,
		masker: clean.NewMasker(),
		log:    log,
		slots:  make(chan struct{}, cfg.MaxParallel),
	}, nil
}

// Register adds the service to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { logsv1.RegisterLogsServiceServer(r, s) }

// Run returns when ctx is done: the service does nothing unasked.
func (s *Service) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready reports whether the folder can be read.
func (s *Service) Ready(context.Context) error {
	dir, err := folder.Open(s.cfg.Dir)
	if err != nil {
		return err
	}
	return dir.Close()
}
