package executor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	"github.com/sallyport-mcp/sallyport/pkg/identity"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/approval"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
)

const (
	// maxDefinitions bounds the definitions in one answer, in bytes. Beyond it
	// an answer still says which tools there are.
	maxDefinitions = 8 << 20
	// approvalTimeout bounds the wait for the audit stream.
	approvalTimeout = 5 * time.Second
)

// Offers tells what is offered now; [Service] does.
type Offers interface {
	// Ready returns an error while that is not known yet.
	Ready(context.Context) error
	// Offered returns all tools that can be withheld, whether they are or not.
	Offered() []catalogue.Offer
}

// Hold judges what is offered by a store of approvals. It implements
// [catalogue.Hold].
type Hold struct{ *approval.Store }

// Judge implements [catalogue.Hold].
func (h Hold) Judge(o catalogue.Offer) bool { return h.Store.Judge(approval.Offer(o)) }

// Use implements [catalogue.Hold].
func (h Hold) Use(o catalogue.Offer) { h.Store.Use(approval.Offer(o)) }

// Approvals implements [executorv1.ApprovalServiceServer]. Its methods are safe
// for concurrent use.
type Approvals struct {
	executorv1.UnimplementedApprovalServiceServer

	store  *approval.Store
	offers Offers
	audit  Recorder
	log    *slog.Logger
}

// NewApprovals returns a server for what a store holds, which Run runs. Nothing
// but log may be nil.
func NewApprovals(store *approval.Store, offers Offers, audit Recorder, log *slog.Logger) *Approvals {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Approvals{store: store, offers: offers, audit: audit, log: log}
}

// Register adds the service to a server.
func (a *Approvals) Register(r grpc.ServiceRegistrar) {
	executorv1.RegisterApprovalServiceServer(r, a)
}

// Run keeps the store until ctx is done.
func (a *Approvals) Run(ctx context.Context) error {
	if err := a.store.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Ready returns an error until it is known what was approved.
func (a *Approvals) Ready(context.Context) error { return a.store.Loaded() }

// ListDefinitions implements [executorv1.ApprovalServiceServer].
func (a *Approvals) ListDefinitions(ctx context.Context, req *executorv1.ListDefinitionsRequest) (*executorv1.ListDefinitionsResponse, error) {
	offered, err := a.offered(ctx)
	if err != nil {
		return nil, err
	}
	resp, left := &executorv1.ListDefinitionsResponse{}, maxDefinitions
	for _, o := range offered {
		if req.GetTool() != "" && req.GetTool() != o.Name {
			continue
		}
		d := a.describe(o)
		if req.GetWithheld() && d.GetState() == executorv1.DefinitionState_DEFINITION_STATE_APPROVED {
			continue
		}
		if left > 0 {
			a.complete(ctx, d, req.GetTool() != "")
			left -= proto.Size(d)
		}
		if left <= 0 {
			d.Offered, d.Approved = nil, nil
		}
		resp.Definitions = append(resp.Definitions, d)
	}
	return resp, nil
}

// Approve implements [executorv1.ApprovalServiceServer]. The audit event comes
// first and the approval after it: one that nobody heard of must not count,
// while an event about one that could not be written does no harm, and is
// followed by another that says so.
func (a *Approvals) Approve(ctx context.Context, req *executorv1.ApproveRequest) (*executorv1.ApproveResponse, error) {
	offered, err := a.offered(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(offered, func(o approval.Offer) bool { return o.Name == req.GetTool() })
	if i < 0 {
		return nil, fault.New(codes.NotFound, executorv1.Reason_REASON_UNKNOWN, "no service offers a tool %q", req.GetTool())
	}
	o := offered[i]
	if !bytes.Equal(o.Digest, req.GetDigest()) {
		return nil, fault.New(codes.FailedPrecondition, executorv1.Reason_REASON_CHANGED,
			"the definition of %q is no longer the one that was looked at; look again", o.Name)
	}
	_, old := a.store.State(o)
	if !bytes.Equal(old.GetDigest(), o.Digest) {
		if err := a.approve(ctx, o, old, req.GetBy()); err != nil {
			return nil, err
		}
	}
	d := a.describe(o)
	a.complete(ctx, d, true)
	return &executorv1.ApproveResponse{Definition: d}, nil
}

// approve records and then writes. Its error is a fault.
func (a *Approvals) approve(ctx context.Context, o approval.Offer, old *executorv1.Approval, by string) error {
	// Whoever calls speaks for an operator, and never in the name of a first use.
	by = clip("operator "+by, 140)
	details := map[string]string{"by": by, "new": approval.Short(o.Digest)}
	if old != nil {
		details["old"] = approval.Short(old.GetDigest())
	}
	wait, cancel := context.WithTimeout(ctx, approvalTimeout)
	defer cancel()
	role := identity.Caller(ctx)
	if err := a.audit.Commit(wait, approval.Event(role, "tool.approve", o, details)); err != nil {
		return fault.New(codes.Unavailable, executorv1.Reason_REASON_AUDIT_UNAVAILABLE,
			"the audit record was not acknowledged; nothing was approved").Because(err)
	}
	if err := a.store.Approve(ctx, o, by); err != nil {
		a.recordFailed(ctx, approval.Event(role, "tool.approve.failed", o, nil))
		return fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY,
			"the store of approvals did not answer; list what is withheld to see whether %q still is", o.Name).Because(err)
	}
	return nil
}

// recordFailed says that an approval which was recorded was not written, or that
// it is not known whether it was.
func (a *Approvals) recordFailed(ctx context.Context, e *auditv1.Event) {
	if err := a.audit.Record(context.WithoutCancel(ctx), e); err != nil {
		a.log.ErrorContext(ctx, "that an approval failed could not be recorded", "tool", e.GetTarget(), "err", err)
	}
}

// offered returns what is offered, by name, once it is known what was approved:
// before that all would seem to be new. The error is a fault.
func (a *Approvals) offered(ctx context.Context) ([]approval.Offer, error) {
	if err := errors.Join(a.store.Loaded(), a.offers.Ready(ctx)); err != nil {
		return nil, fault.New(codes.Unavailable, faultv1.Reason_REASON_NOT_READY,
			"the tools and their approvals are not loaded yet").Because(err)
	}
	var all []approval.Offer
	for _, o := range a.offers.Offered() {
		all = append(all, approval.Offer(o))
	}
	slices.SortFunc(all, func(a, b approval.Offer) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

func (a *Approvals) describe(o approval.Offer) *executorv1.Definition {
	state, approved := a.store.State(o)
	return &executorv1.Definition{
		Tool: o.Name, Service: o.Service, State: state,
		Offered: o.Definition, Digest: o.Digest, Approved: approved,
	}
}

// complete adds the definition that was approved, and if wanted what that has
// replaced. If it cannot be read there was, for whoever looks, none: all of what is
// offered is new to them.
func (a *Approvals) complete(ctx context.Context, d *executorv1.Definition, replaced bool) {
	known := d.GetApproved().GetDefinition() != nil // then it is what is offered
	if d.GetApproved() == nil || known && !replaced {
		return
	}
	approved, err := a.store.Read(ctx, d.GetService(), d.GetTool())
	if err != nil {
		a.log.WarnContext(ctx, "an approval could not be read", "tool", d.GetTool(), "err", err)
	}
	switch {
	case !known:
		d.Approved = approved
	case bytes.Equal(approved.GetDigest(), d.GetDigest()):
		d.Approved.Replaced = approved.GetReplaced()
	}
	if !replaced && d.Approved != nil {
		d.Approved.Replaced = nil
	}
}
