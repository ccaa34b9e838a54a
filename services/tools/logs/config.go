package logs

import (
	"errors"
	"fmt"
	"time"
)

// The bounds below which a limit makes no sense and above which it is none.
const (
	minBytes = 64 << 10
	maxBytes = 1 << 30
)

// Config says which log files are summarized and how much of them.
type Config struct {
	// Dir is the folder of the log files. Empty means a folder of demo logs,
	// made in the state directory.
	Dir string `yaml:"dir"`
	// Zone is the time zone of lines that name none, such as "Europe/Berlin".
	Zone string `yaml:"zone"`
	// MaxBytesPerFile bounds what is read of a file: its end.
	MaxBytesPerFile int64 `yaml:"max_bytes_per_file"`
	// MaxTotalBytes bounds what is read for one summary.
	MaxTotalBytes int64 `yaml:"max_total_bytes"`
	// MaxLine bounds what is looked at of a line.
	MaxLine int `yaml:"max_line"`
	// MaxFiles bounds how many files a summary covers: those written to last.
	MaxFiles int `yaml:"max_files"`
	// MaxTemplates bounds how many kinds of message a summary shows.
	MaxTemplates int `yaml:"max_templates"`
	// MaxParallel bounds how many summaries are made at once; others wait.
	MaxParallel int `yaml:"max_parallel"`
}

// DefaultConfig returns the configuration that holds where the file is silent.
func DefaultConfig() Config {
	return Config{
		Zone:            "UTC",
		MaxBytesPerFile: 16 << 20,
		MaxTotalBytes:   64 << 20,
		MaxLine:         16 << 10,
		MaxFiles:        100,
		MaxTemplates:    20,
		MaxParallel:     2,
	}
}

// Validate reports all mistakes at once.
func (c Config) Validate() error {
	var errs []error
	within := func(field string, got, least, most int64) {
		if got < least || got > most {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", field, got, least, most))
		}
	}
	if _, err := time.LoadLocation(c.Zone); err != nil {
		errs = append(errs, fmt.Errorf("zone: %q is not known; name one such as UTC or Europe/Berlin", c.Zone))
	}
	within("max_bytes_per_file", c.MaxBytesPerFile, minBytes, maxBytes)
	within("max_total_bytes", c.MaxTotalBytes, minBytes, maxBytes)
	within("max_line", int64(c.MaxLine), 256, 1<<20)
	// The upper bounds of the next two are the contract's.
	within("max_files", int64(c.MaxFiles), 1, 1000)
	within("max_templates", int64(c.MaxTemplates), 1, 50)
	within("max_parallel", int64(c.MaxParallel), 1, 64)
	return errors.Join(errs...)
}
