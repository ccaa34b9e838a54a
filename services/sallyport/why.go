package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/spf13/cobra"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

// decisionID is the form of the ids that decisions have.
var decisionID = regexp.MustCompile(`^d_[0-9A-HJKMNP-TV-Z]{26}$`)

func whyCommand(o *operator) *cobra.Command {
	var out output
	var last bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "why DECISION",
		Short: "Explain a decision: who asked for what, which policy decided, what followed, what to do",
		Long: `Why shows all that is on record of one decision. Its id, d_ and 26 characters, is in
each answer to a client that was refused: in the text, in _meta["dev.sallyport/decision"] and
in the header Sallyport-Decision-Id.`,
		Example: `  sallyport why d_01KB3ZJ5W8Q2V7N4XH6TTC9RDE
  sallyport why --last`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if last == (len(args) > 0) {
				return usage("name the decision, or say --last for the newest refusal")
			}
			if !last && !decisionID.MatchString(args[0]) {
				return usage("%q is not the id of a decision, which is d_ and 26 characters", args[0])
			}
			q := inquiry{wait: wait, tick: 100 * time.Millisecond}
			closing, err := q.dial(o)
			if err != nil {
				return err
			}
			defer closing()
			id := ""
			if len(args) > 0 {
				id = args[0]
			}
			d, err := q.dossier(cmd.Context(), id)
			if err != nil {
				return err
			}
			if out.json() {
				return d.writeJSON(cmd.OutOrStdout())
			}
			return d.write(paperFor(cmd.OutOrStdout()))
		},
	}
	out.register(cmd)
	cmd.Flags().BoolVar(&last, "last", false, "the newest decision that was no plain yes")
	cmd.Flags().DurationVar(&wait, "wait", 2*time.Second, "how `long` to wait for a decision that is not in the index yet")
	return cmd
}

// inquiry is where dossiers come from.
type inquiry struct {
	audit     auditv1.AuditServiceClient
	policies  authv1.PolicyServiceClient   // nil where auth cannot be reached
	approvals authv1.ApprovalServiceClient // nil likewise
	wait      time.Duration
	tick      time.Duration
}

// dial connects to the services. Without auth there is less to tell, without
// audit nothing.
func (q *inquiry) dial(o *operator) (closing func(), err error) {
	conn, err := o.dial("audit")
	if err != nil {
		return nil, err
	}
	q.audit = auditv1.NewAuditServiceClient(conn)
	auth, err := o.dial("auth")
	if err != nil {
		return func() { _ = conn.Close() }, nil // the process ends
	}
	q.policies, q.approvals = authv1.NewPolicyServiceClient(auth), authv1.NewApprovalServiceClient(auth)
	return func() { _, _ = conn.Close(), auth.Close() }, nil // the process ends
}

// dossier is all that is known of a decision.
type dossier struct {
	id     string
	events []*auditv1.Event // as they happened, at least one
	policy *statement       // the text of the policy that decided, as it was then; nil if it is not known
	// then and now are hashes of the policies that decided and that are in use, ""
	// where it is not known.
	then, now string
	approval  *authv1.CallApproval // nil if there is none or it is not known
}

// dossier collects it; the id "" stands for the newest decision that was not allow.
func (q *inquiry) dossier(ctx context.Context, id string) (*dossier, error) {
	if id == "" {
		resp, err := q.audit.Query(ctx, &auditv1.QueryRequest{PageSize: 1, Filter: &auditv1.Filter{
			Verdicts: []auditv1.Verdict{auditv1.Verdict_VERDICT_DENY, auditv1.Verdict_VERDICT_APPROVAL},
		}})
		switch {
		case err != nil:
			return nil, unanswered(err)
		case len(resp.GetEvents()) == 0:
			return nil, failed(fmt.Errorf("nothing was refused yet, as far as the record goes"))
		case resp.GetEvents()[0].GetDecisionId() == "": // of a credential that was no good
			return &dossier{events: resp.GetEvents()}, nil
		}
		id = resp.GetEvents()[0].GetDecisionId()
	}
	events, err := q.events(ctx, id)
	if err != nil {
		return nil, err
	}
	d := &dossier{id: id, events: events}
	q.addPolicy(ctx, d)
	q.addApproval(ctx, d)
	return d, nil
}

// events returns all that belongs to a decision. The index is some milliseconds
// behind the stream, so an id that is not known may be known soon.
func (q *inquiry) events(ctx context.Context, id string) (events []*auditv1.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(q.wait, 0)+10*time.Second)
	defer cancel()
	deadline := time.Now().Add(q.wait)
	for {
		resp, err := q.audit.Query(ctx, &auditv1.QueryRequest{PageSize: 1000, OldestFirst: true, Filter: &auditv1.Filter{DecisionIds: []string{id}}})
		if err != nil {
			return nil, unanswered(err)
		}
		if len(resp.GetEvents()) > 0 {
			return resp.GetEvents(), nil
		}
		if !time.Now().Before(deadline) {
			return nil, failed(unknownDecision(id, resp.GetLag()))
		}
		select {
		case <-time.After(q.tick):
		case <-ctx.Done():
			return nil, unanswered(ctx.Err())
		}
	}
}

func unknownDecision(id string, lag uint64) error {
	text := "An event is usually in the index within a tenth of a second, and the index has all there is."
	if lag > 0 {
		text = fmt.Sprintf("The index is %d messages behind the stream: try again, or wait with --wait 1m.", lag)
	}
	return fmt.Errorf(`no decision %s is on record.
%s
Is the id whole, and from this system? Search with
  sallyport audit tail --verdict deny --since 1h
  sallyport audit tail --principal key:ID --since 1d`, id, text)
}

// addPolicy adds the text of the policy that decided, if the policies are still
// those of then.
func (q *inquiry) addPolicy(ctx context.Context, d *dossier) {
	decision := d.deciding().GetDecision()
	d.then = d.policies()
	if q.policies == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	resp, err := q.policies.GetPolicies(ctx, &authv1.GetPoliciesRequest{})
	if err != nil {
		return // there is less to tell
	}
	d.now = resp.GetVersion()
	if d.then == d.now {
		d.policy = find(statements(resp.GetFiles()), decision.GetRule())
	}
}

// addApproval adds how the approval stands that a decision waits for or has used.
func (q *inquiry) addApproval(ctx context.Context, d *dossier) {
	id := d.approvalID()
	if id == "" || q.approvals == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for token := ""; ; {
		resp, err := q.approvals.ListApprovals(ctx, &authv1.ListApprovalsRequest{PageSize: 1000, PageToken: token})
		if err != nil {
			return // there is less to tell
		}
		if i := slices.IndexFunc(resp.GetApprovals(), func(a *authv1.CallApproval) bool { return a.GetId() == id }); i >= 0 {
			d.approval = resp.GetApprovals()[i]
			return
		}
		if token = resp.GetNextPageToken(); token == "" {
			return
		}
	}
}

// deciding returns the decision that counts: a call can be allowed by policies
// and then be refused by a quota or by the executor, and a refusal wins. It is
// nil where only other events are on record.
func (d *dossier) deciding() (found *auditv1.Event) {
	for _, e := range d.events {
		if e.GetDecision() != nil && (found == nil || e.GetDecision().GetVerdict() != auditv1.Verdict_VERDICT_ALLOW) {
			found = e
		}
	}
	return found
}

// ending returns the last outcome, the one that says most if there are several;
// nil if there is none.
func (d *dossier) ending() (found *auditv1.Event) {
	for _, e := range d.events {
		if e.GetOutcome() != nil && (found == nil || found.GetOutcome().GetStatus() == auditv1.Status_STATUS_OK) {
			found = e
		}
	}
	return found
}

func (d *dossier) policies() string {
	for _, e := range d.events {
		if v := e.GetDecision().GetPolicies(); v != "" {
			return v
		}
	}
	return ""
}

func (d *dossier) approvalID() string {
	for _, e := range d.events {
		if id := e.GetDecision().GetApprovalId(); id != "" {
			return id
		}
	}
	return ""
}

// reason is the one that explains how it ended: of the refusal, or of the call.
func (d *dossier) reason() auditv1.Reason {
	if e := d.deciding(); e.GetDecision().GetReason() != auditv1.Reason_REASON_UNSPECIFIED {
		return e.GetDecision().GetReason()
	}
	return d.ending().GetOutcome().GetReason()
}

// verdict says in two words how it ended.
func (d *dossier) verdict() string {
	switch e := d.deciding(); {
	case e.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_DENY:
		return "denied"
	case e.GetDecision().GetVerdict() == auditv1.Verdict_VERDICT_APPROVAL:
		return "approval"
	case d.ending() != nil:
		switch d.ending().GetOutcome().GetStatus() {
		case auditv1.Status_STATUS_FAILED:
			return "failed"
		case auditv1.Status_STATUS_UNKNOWN:
			return "unknown"
		}
		return "done"
	}
	return "allowed"
}

// colourful reports whether a stream takes colours.
func colourful(stream any) bool {
	return terminal(stream) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
