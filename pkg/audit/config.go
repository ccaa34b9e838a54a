package audit

import (
	"errors"
	"fmt"
	"time"
)

// Limits of what goes over the stream. They are not configurable, because
// readers rely on them: a batch with its envelope stays well under the largest
// message that NATS takes, 1 MiB.
const (
	// MaxBatchEvents is the largest number of events in one batch.
	MaxBatchEvents = 1024
	// MaxBatchBytes bounds the events of one batch together.
	MaxBatchBytes = 512 << 10
	// MaxEventBytes bounds one event.
	MaxEventBytes = 64 << 10
)

// Config says how much a recorder holds and how long it waits.
type Config struct {
	// Queue is the number of events that may be waiting for the stream's
	// acknowledgement. Beyond it Record refuses.
	Queue int `yaml:"queue"`
	// QueueBytes bounds the same in memory.
	QueueBytes int `yaml:"queue_bytes"`
	// PublishTimeout is how long one attempt to publish may take before the
	// same batch is tried again. A message that is lost while the stream changes
	// its leader costs this time, which is less than most callers wait.
	PublishTimeout time.Duration `yaml:"publish_timeout"`
	// DrainTimeout is how long Run goes on publishing what is queued after it
	// was told to end.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// DefaultConfig returns the configuration of a recorder when nothing is said:
// at a thousand calls a second the queue bridges about three seconds without a
// stream.
func DefaultConfig() Config {
	return Config{
		Queue:          8192,
		QueueBytes:     16 << 20,
		PublishTimeout: 2 * time.Second,
		DrainTimeout:   5 * time.Second,
	}
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	if c.Queue < 1 || c.Queue > 1<<20 {
		errs = append(errs, fmt.Errorf("queue: %d is not between 1 and %d", c.Queue, 1<<20))
	}
	if c.QueueBytes < MaxEventBytes || c.QueueBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("queue_bytes: %d is not between %d and %d", c.QueueBytes, MaxEventBytes, 1<<30))
	}
	if c.PublishTimeout < 100*time.Millisecond || c.PublishTimeout > time.Minute {
		errs = append(errs, fmt.Errorf("publish_timeout: %v is not between 100ms and 1m", c.PublishTimeout))
	}
	if c.DrainTimeout < 0 || c.DrainTimeout > time.Minute {
		errs = append(errs, fmt.Errorf("drain_timeout: %v is not between 0s and 1m", c.DrainTimeout))
	}
	return errors.Join(errs...)
}
