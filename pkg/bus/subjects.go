package bus

import "time"

// Everything that is named on the bus is named in this file.

// Subjects of core NATS: notices that may be lost.
const (
	// SubjectCredentials carries an authv1.Key (id and state) when a key was
	// created, rotated or revoked. Whoever remembers authentications drops them.
	SubjectCredentials = "sallyport.notice.credentials"
)

// The audit stream: an auditv1.Batch in each message.
const (
	AuditStream  = "AUDIT"
	SubjectAudit = "sallyport.audit.events"
)

// Lease is how long a tool service stays in the catalogue without renewing its
// announcement; it renews three times as often.
const Lease = 15 * time.Second

// Bucket is a JetStream key-value bucket.
type Bucket struct {
	Name        string
	Description string
	TTL         time.Duration // of an entry; 0 is for ever
}

// The buckets.
var (
	// Keys holds the records of API keys by key id. Auth alone reads it.
	Keys = Bucket{Name: "keys", Description: "API keys by id; HMACs, no secrets"}
	// Tools holds executorv1.Announcement by "<service>.<instance>".
	Tools = Bucket{Name: "tools", Description: "announcements of tool services", TTL: Lease}
	// Catalogue holds executorv1.Catalogue under "current".
	Catalogue = Bucket{Name: "catalogue", Description: "tools as policies see them"}
)
