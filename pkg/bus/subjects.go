package bus

import "time"

// Everything that is named on the bus is named in this file.

// Subjects of core NATS: notices that may be lost.
const (
	// SubjectCredentials carries an authv1.Key (id and state) when a key was
	// created, rotated or revoked. Whoever remembers authentications drops them.
	SubjectCredentials = "sallyport.notice.credentials"
	// SubjectPolicies carries an authv1.PolicyNotice when policies have changed,
	// and from each auth process that starts.
	SubjectPolicies = "sallyport.notice.policies"
	// SubjectCancel carries an edgev1.Cancel to all edges.
	SubjectCancel = "sallyport.edge.cancel"
	// SubjectAnswers and the name of a node is where this edge takes
	// edgev1.ClientAnswer as requests.
	SubjectAnswers = "sallyport.edge.answers."
	// SubjectQuotaAsks, SubjectQuotaCopies and SubjectQuotaChecks, and the id of a
	// quota node, is where it takes quotav1.ClusterRequest of other quota nodes as
	// requests.
	SubjectQuotaAsks   = "sallyport.quota.asks."
	SubjectQuotaCopies = "sallyport.quota.copies."
	SubjectQuotaChecks = "sallyport.quota.checks."
	// SubjectQuotaFast carries a quotav1.FastFrame from each quota node to all, about
	// limits in fast mode; SubjectQuotaFastSyncs and a number that names a process is
	// where it takes quotav1.FastSyncRequest.
	SubjectQuotaFast      = "sallyport.quota.fast"
	SubjectQuotaFastSyncs = "sallyport.quota.fastsyncs."
	// SubjectQuotaBookings and the id of a quota node is where it takes
	// quotav1.LedgerRequest.
	SubjectQuotaBookings = "sallyport.quota.bookings."
)

// The audit stream: an auditv1.Batch in each message.
const (
	AuditStream  = "AUDIT"
	SubjectAudit = "sallyport.audit.events"
)

// The ledger of durable quotas: a quotav1.LedgerBatch in each message.
const (
	LedgerStream  = "QUOTA_LEDGER"
	SubjectLedger = "sallyport.quota.ledger"
)

// LedgerLife is how long a message of the ledger is kept: longer than two months,
// the longest periods of a quota.
const LedgerLife = 70 * 24 * time.Hour

// Lease is how long a tool service stays in the catalogue without renewing its
// announcement; it renews three times as often.
const Lease = 15 * time.Second

// SessionLife is how long a legacy session can be used.
const SessionLife = 24 * time.Hour

// RoundLife is how long a client may take to answer what it was asked.
const RoundLife = 15 * time.Minute

// ApprovalLife is how long an approval of a call is kept after it was last
// written: it may be good for a day, and is listed for a day after that.
const ApprovalLife = 49 * time.Hour

// GrantLife is the longest that auth lets a grant be used.
const GrantLife = 10 * time.Minute

// OnceLife is how long calls with an idempotency key are remembered.
const OnceLife = 24 * time.Hour

// ContextLife is how long what a context has seen is kept after it was last written.
const ContextLife = 24 * time.Hour

// ClockSkew is how far apart the clocks of two machines may be where that
// matters.
const ClockSkew = time.Minute

// ProofLife is how long the id of a DPoP proof is remembered: longer than one is
// taken, with the clocks of two machines apart.
const ProofLife = 10 * time.Minute

// MemberLife is how long the entry of a quota node outlives its last renewal. It
// is for tidiness alone: leases end much sooner, and by the clocks of the nodes.
const MemberLife = time.Minute

// Bucket is a JetStream key-value bucket.
type Bucket struct {
	Name        string
	Description string
	TTL         time.Duration // of an entry; 0 is for ever
}

// The buckets.
var (
	// Keys holds the records of API keys by key id, when they were last used by
	// "use.<id>", and "beat", by which auth finds out that it hears of changes. Auth
	// alone reads it.
	Keys = Bucket{Name: "keys", Description: "API keys by id; HMACs, no secrets"}
	// Policies holds the authv1.PolicyBundle under "current", sealed. Auth alone
	// reads it.
	Policies = Bucket{Name: "policies", Description: "policies that take the place of those in files"}
	// Tools holds executorv1.Announcement by "<service>.<instance>".
	Tools = Bucket{Name: "tools", Description: "announcements of tool services", TTL: Lease}
	// Catalogue holds executorv1.Catalogue under "current".
	Catalogue = Bucket{Name: "catalogue", Description: "tools as policies see them"}
	// Approvals holds executorv1.Approval by "<service>.<tool>".
	Approvals = Bucket{Name: "approvals", Description: "tool definitions that were approved"}
	// CallApprovals holds authv1.ApprovalRecord, sealed and encrypted, by a hash of
	// the call. Auth alone reads it.
	CallApprovals = Bucket{Name: "call-approvals", Description: "calls that somebody has to approve, encrypted", TTL: ApprovalLife}
	// Sessions holds edgev1.SessionState by session, for those that have one.
	Sessions = Bucket{Name: "sessions", Description: "what clients have set in legacy sessions", TTL: SessionLife}
	// Rounds holds the ids of states of multi-round-trip requests that were used
	// up, for as long as they would be taken.
	Rounds = Bucket{Name: "rounds", Description: "request states that were used up", TTL: RoundLife}
	// Grants holds the ids of decisions whose grants for destructive tools were used
	// up, for longer than any grant lives.
	Grants = Bucket{Name: "grants", Description: "grants for destructive tools that were used up", TTL: GrantLife + 2*ClockSkew}
	// Calls holds executorv1.OnceRecord by a hash of principal, tool and idempotency
	// key, results encrypted.
	Calls = Bucket{Name: "calls", Description: "calls with an idempotency key; results encrypted", TTL: OnceLife}
	// Contexts holds executorv1.ContextRecord, encrypted, by a hash of principal and
	// context. Executors write it, and auth reads it.
	Contexts = Bucket{Name: "contexts", Description: "what contexts have seen; encrypted, values as hashes", TTL: ContextLife}
	// Proofs holds the ids of DPoP proofs that were used up.
	Proofs = Bucket{Name: "proofs", Description: "DPoP proofs that were used up", TTL: ProofLife}
	// Quota holds the quotav1.ClusterView under "view" and the quotav1.ClusterSeed
	// under "seed".
	Quota = Bucket{Name: "quota", Description: "which quota node counts what"}
	// QuotaSnapshots holds quotav1.SnapshotHead and quotav1.SnapshotPage.
	QuotaSnapshots = Bucket{Name: "quota-snapshots", Description: "what the ledger of quotas amounts to"}
	// QuotaMembers holds quotav1.ClusterMember by the id of a quota node.
	QuotaMembers = Bucket{Name: "quota-members", Description: "leases of quota nodes", TTL: MemberLife}
)
