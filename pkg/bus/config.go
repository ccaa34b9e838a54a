package bus

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config is the "bus" section of the configuration file.
type Config struct {
	// Embedded starts a NATS server with JetStream in this process. URL must be
	// empty then.
	Embedded bool `yaml:"embedded"`
	// Listen is the address where the embedded server also takes other
	// processes, "host:port", port 0 for any; empty for none.
	Listen string `yaml:"listen"`
	// Dir is where the embedded server keeps its streams; <state_dir>/nats when
	// empty.
	Dir string `yaml:"dir"`
	// Sync says when the embedded server writes to disk before it acknowledges:
	// "always", which loses nothing in a power cut, or a span such as "2m".
	Sync string `yaml:"sync"`
	// URL of the NATS servers, comma-separated: "nats://nats-1:4222,nats://nats-2:4222".
	URL string `yaml:"url"`
	// User and PasswordFile log in, here and at the embedded server.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	// CA, Cert and Key are files for TLS to the servers; empty for none.
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// Replicas of each stream and bucket: 1 embedded, 3 in a cluster.
	Replicas int `yaml:"replicas"`
	// AuditMaxBytes bounds the audit stream. When it is full new events are
	// refused, and with them the calls that need them: old evidence is never
	// dropped. 0 is no bound but the disk's.
	AuditMaxBytes int64 `yaml:"audit_max_bytes"`
}

// DefaultConfig returns the values that hold where the file is silent.
func DefaultConfig() Config { return Config{Embedded: true, Sync: "always", Replicas: 1} }

// Validate reports every mistake at once.
func (c Config) Validate() error {
	var errs []error
	if c.Embedded && c.URL != "" {
		errs = append(errs, errors.New("bus: embedded and url exclude each other; set embedded: false to use the servers at url"))
	}
	if !c.Embedded && c.URL == "" {
		errs = append(errs, errors.New("bus.url: missing; say where NATS is, or set bus.embedded: true"))
	}
	for u := range strings.SplitSeq(c.URL, ",") {
		if p, err := url.Parse(strings.TrimSpace(u)); c.URL != "" && (err != nil || p.Host == "") {
			errs = append(errs, errors.New("bus.url: not a URL such as nats://host:4222"))
		}
	}
	if c.Listen != "" {
		if _, _, err := net.SplitHostPort(c.Listen); err != nil {
			errs = append(errs, fmt.Errorf("bus.listen: %w", err))
		}
	}
	if _, _, err := c.SyncPolicy(); err != nil {
		errs = append(errs, err)
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		errs = append(errs, fmt.Errorf("bus.replicas: %d is not between 1 and 5", c.Replicas))
	}
	if c.AuditMaxBytes < 0 {
		errs = append(errs, errors.New("bus.audit_max_bytes: must not be negative"))
	}
	if c.User != "" && c.PasswordFile == "" {
		errs = append(errs, errors.New("bus.password_file: missing, a user is set"))
	}
	return errors.Join(errs...)
}

// SyncPolicy returns what Sync says: always, or how often.
func (c Config) SyncPolicy() (always bool, every time.Duration, err error) {
	if c.Sync == "always" {
		return true, 0, nil
	}
	every, err = time.ParseDuration(c.Sync)
	if err != nil || every <= 0 {
		return false, 0, fmt.Errorf("bus.sync: %q is neither \"always\" nor a span such as 2m", c.Sync)
	}
	return false, every, nil
}

func (c Config) password() (string, error) {
	if c.PasswordFile == "" {
		return "", nil
	}
	b, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("bus.password_file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
