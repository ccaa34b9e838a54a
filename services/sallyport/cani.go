package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
)

func canICommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "can-i",
		Short: "Ask what somebody may do, and why, without doing it",
		Long: `Can-i asks the code that decides about calls. It makes no grant and no record.

Exit code 0 is yes, 1 no; 2 is neither: it depends on arguments, an approval is needed, or the
question was no good.`,
		Args: cobra.ArbitraryArgs,
		RunE: group,

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(
		canIOneCommand(o, "call", "TOOL", authv1.Action_ACTION_TOOLS_CALL),
		canIOneCommand(o, "read", "URI", authv1.Action_ACTION_RESOURCES_READ),
		canIOneCommand(o, "get", "PROMPT", authv1.Action_ACTION_PROMPTS_GET),
		canIListCommand(o),
	)
	return cmd
}

// situation is what flags say of who asks, and how.
type situation struct {
	as      string
	roles   []string
	tenant  string
	address string
	client  string
	time    string
	hops    uint32
	steps   int64
	scopes  []string
	after   []string
	suspect []string
}

func (s *situation) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.as, "as", "", "`key`, by its name or id")
	f.StringSliceVar(&s.roles, "role", nil, "instead of a key: somebody with this `role`; may be repeated")
	f.StringVar(&s.tenant, "tenant", "", "of this `tenant`, with --role (default \"default\")")
	f.StringVar(&s.address, "address", "", "from this `address`")
	f.StringVar(&s.client, "client", "", "with this `client`: name/version")
	f.StringVar(&s.time, "time", "", "at this `time`: 2026-11-02T09:30:00Z (default: now)")
	f.Uint32Var(&s.hops, "hops", 0, "through so `many` agents")
	f.Int64Var(&s.steps, "steps", -1, "after so `many` steps of the context (default: not known)")
	f.StringSliceVar(&s.after, "after", nil, "after untrusted content was read from this `tool`; may be repeated (default: the context is new)")
	f.StringSliceVar(&s.suspect, "from-untrusted", nil, "with a value in this `argument` that was first read there; may be repeated")
	f.StringSliceVar(&s.scopes, "scope", nil, "with --role: with a token that has this `scope`; may be repeated")
}

// base returns a case without action and target.
func (s *situation) base() (*authv1.SimulatedCase, error) {
	switch {
	case s.as != "" && len(s.roles) > 0:
		return nil, usage("--as and --role exclude each other")
	case s.as == "" && len(s.roles) == 0:
		return nil, usage("say who: --as KEY, or --role ROLE")
	case s.as != "" && s.tenant != "":
		return nil, usage("--tenant goes with --role; a key has its own")
	case s.as != "" && len(s.scopes) > 0:
		return nil, usage("--scope goes with --role; a key has no scopes")
	}
	c := &authv1.SimulatedCase{Scopes: s.scopes, Origin: &authv1.Origin{Address: s.address, Client: s.client, Hops: s.hops}}
	if s.address != "" {
		if _, err := netip.ParseAddr(s.address); err != nil {
			return nil, usage("--address: %q is not an IP address", s.address)
		}
	}
	if len(s.after) > maxSeen || len(s.suspect) > maxSuspects {
		return nil, usage("--after: at most %d, --from-untrusted: at most %d", maxSeen, maxSuspects)
	}
	c.Seen = &authv1.Seen{Arguments: s.suspect}
	for _, tool := range s.after {
		c.Seen.Labels = append(c.Seen.Labels, suiteLabel{Source: tool}.label())
	}
	if s.steps >= 0 {
		n := uint64(s.steps)
		c.Origin.Steps = &n
	}
	if s.time != "" {
		t, err := time.Parse(time.RFC3339, s.time)
		if err != nil {
			return nil, usage("--time: %q is not a time such as 2026-11-02T09:30:00Z", s.time)
		}
		c.Time = timestamppb.New(t)
	}
	if len(s.roles) > 0 {
		c.Subject = &authv1.SimulatedCase_Principal{Principal: described(s.roles, s.tenant)}
	}
	return c, nil
}

// described is somebody of whom only this is known.
func described(roles []string, tenant string) *authv1.Principal {
	p := &authv1.Principal{Id: "somebody", Tenant: tenant, Roles: slices.Compact(slices.Sorted(slices.Values(roles)))}
	if tenant == "" {
		p.Tenant = "default"
	}
	return p
}

// asker puts questions to a running system.
type asker struct {
	policies authv1.PolicyServiceClient
	keys     authv1.KeyServiceClient
	executor executorv1.ExecutorServiceClient
	out      io.Writer
	err      io.Writer
	json     bool
}

func (o *operator) asking(cmd *cobra.Command, out output, work func(*asker) error) error {
	auth, err := o.dial("auth")
	if err != nil {
		return err
	}
	defer func() { _ = auth.Close() }() // the process ends
	executor, err := o.dial("executor")
	if err != nil {
		return err
	}
	defer func() { _ = executor.Close() }() // the process ends
	return work(&asker{
		policies: authv1.NewPolicyServiceClient(auth), keys: authv1.NewKeyServiceClient(auth), executor: executorv1.NewExecutorServiceClient(executor),
		out: cmd.OutOrStdout(), err: cmd.ErrOrStderr(), json: out.json(),
	})
}

func canIOneCommand(o *operator, verb, what string, action authv1.Action) *cobra.Command {
	var out output
	var s situation
	var pairs []string
	var object string
	cmd := &cobra.Command{
		Use:   verb + " " + what,
		Short: fmt.Sprintf("Whether somebody may %s this %s", verb, strings.ToLower(what)),
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.base()
			if err != nil {
				return err
			}
			c.Action, c.Target = action, args[0]
			return o.asking(cmd, out, func(a *asker) error {
				if action == authv1.Action_ACTION_TOOLS_CALL {
					if c.Arguments, err = a.arguments(cmd.Context(), args[0], object, pairs); err != nil {
						return err
					}
				}
				return a.one(cmd.Context(), c, s)
			})
		},
	}
	if action == authv1.Action_ACTION_TOOLS_CALL {
		cmd.Example = `  sallyport can-i call run_sql_query --as ci
  sallyport can-i call delete_customer_account --role admin --arg customer_id=7 --address 10.0.0.7`
		cmd.Flags().StringArrayVar(&pairs, "arg", nil, "an argument: `name=value`, as JSON or text; may be repeated")
		cmd.Flags().StringVar(&object, "args", "", "all arguments as one `JSON` object")
	}
	out.register(cmd)
	s.register(cmd)
	return cmd
}

func canIListCommand(o *operator) *cobra.Command {
	var out output
	var s situation
	cmd := &cobra.Command{
		Use:       "list tools",
		Short:     "All tools, and whether somebody may call them",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"tools"},
		Example:   "  sallyport can-i list tools --as ci",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.base()
			if err != nil {
				return err
			}
			return o.asking(cmd, out, func(a *asker) error { return a.list(cmd.Context(), c, s) })
		},
	}
	out.register(cmd)
	s.register(cmd)
	return cmd
}

// one answers one question.
func (a *asker) one(ctx context.Context, c *authv1.SimulatedCase, s situation) error {
	name, err := a.subject(ctx, c, s)
	if err != nil {
		return err
	}
	resp, err := a.policies.Simulate(ctx, &authv1.SimulateRequest{Cases: []*authv1.SimulatedCase{c}})
	if err != nil {
		return trouble(err)
	}
	if len(resp.GetExplanations()) != 1 {
		return &exitError{exitUsage, fmt.Errorf("the auth service gave no answer")}
	}
	e := resp.GetExplanations()[0]
	if e.GetReason() == auditv1.Reason_REASON_TOOL_UNKNOWN {
		return a.unknownTool(ctx, c.GetTarget())
	}
	if a.json {
		if err := writeJSON(a.out, explanationJSON(e)); err != nil {
			return failed(err)
		}
	} else {
		p := paperFor(a.out)
		p.head(oneWord(e), c.GetTarget(), "as "+name)
		writeExplanation(p, e)
		if p.err != nil {
			return failed(p.err)
		}
	}
	switch oneWord(e) {
	case "yes":
		return nil
	case "no":
		return &exitError{code: exitNo}
	}
	return &exitError{code: exitUsage}
}

// list answers about all tools.
func (a *asker) list(ctx context.Context, c *authv1.SimulatedCase, s situation) error {
	if _, err := a.subject(ctx, c, s); err != nil {
		return err
	}
	tools, err := a.executor.ListTools(ctx, &executorv1.ListToolsRequest{})
	if err != nil {
		return trouble(err)
	}
	rows := [][]string{{"TOOL", "MAY CALL", "POLICY", "WHERE", "WHY"}}
	list := []map[string]any{}
	some := false
	for chunk := range slices.Chunk(tools.GetTools(), 500) {
		req := &authv1.SimulateRequest{}
		for _, t := range chunk {
			one := &authv1.SimulatedCase{
				Subject: c.GetSubject(), Action: authv1.Action_ACTION_TOOLS_CALL, Target: t.GetDefinition().GetName(),
				Origin: c.GetOrigin(), Time: c.GetTime(), Scopes: c.GetScopes(),
			}
			req.Cases = append(req.Cases, one)
		}
		resp, err := a.policies.Simulate(ctx, req)
		if err != nil {
			return trouble(err)
		}
		for i, e := range resp.GetExplanations() {
			name := req.GetCases()[i].GetTarget()
			some = some || oneWord(e) != "no"
			rows = append(rows, []string{name, oneWord(e), e.GetPolicy(), e.GetPolicySource(), because(e)})
			one := explanationJSON(e)
			one["tool"] = name
			list = append(list, one)
		}
	}
	if a.json {
		err = writeJSON(a.out, list)
	} else {
		err = table(a.out, rows)
	}
	if err != nil {
		return failed(err)
	}
	if !some {
		return &exitError{code: exitNo}
	}
	return nil
}

// subject completes a case by the key that --as names, and returns what to call
// whoever asks.
func (a *asker) subject(ctx context.Context, c *authv1.SimulatedCase, s situation) (name string, err error) {
	if s.as != "" {
		k, err := findKey(ctx, a.keys, s.as)
		if err != nil {
			return "", err
		}
		c.Subject = &authv1.SimulatedCase_KeyId{KeyId: k.GetId()}
		return fmt.Sprintf("%s, key:%s (%s)", k.GetName(), k.GetId(), strings.Join(k.GetRoles(), " ")), nil
	}
	// A role that no policy knows is most likely mistyped, and answers would be no
	// without saying so.
	resp, err := a.policies.GetPolicies(ctx, &authv1.GetPoliciesRequest{})
	if err != nil {
		return "", trouble(err)
	}
	for _, role := range s.roles {
		if !slices.Contains(resp.GetRoles(), role) {
			fmt.Fprintf(a.err, "no policy names the role %q; there are %s\n", printable(role), printable(strings.Join(resp.GetRoles(), ", ")))
		}
	}
	return strings.Join(s.roles, " "), nil
}

// findKey finds a key by its id, or the one that lives by its name.
func findKey(ctx context.Context, client authv1.KeyServiceClient, as string) (*authv1.Key, error) {
	id, isID := strings.CutPrefix(as, "key:")
	keys, err := allKeys(ctx, client)
	if err != nil {
		return nil, trouble(err)
	}
	var found, dead []*authv1.Key
	for _, k := range keys {
		switch alive := k.GetState() == authv1.KeyState_KEY_STATE_ACTIVE || k.GetState() == authv1.KeyState_KEY_STATE_ROTATING; {
		case isID && k.GetId() != id, !isID && k.GetId() != as && k.GetName() != as && k.GetName() != "demo "+as:
		case alive:
			found = append(found, k)
		default:
			dead = append(dead, k)
		}
	}
	// The demo keys are called by one word elsewhere too; a key that really has
	// this name goes before.
	if exact := slices.DeleteFunc(slices.Clone(found), func(k *authv1.Key) bool { return k.GetName() == "demo "+as }); len(exact) > 0 {
		found = exact
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		var ids []string
		for _, k := range found {
			ids = append(ids, fmt.Sprintf("%s (%s)", k.GetId(), printable(k.GetName())))
		}
		return nil, usage("%q is more than one key: %s; name one as key:ID", as, strings.Join(ids, ", "))
	case len(dead) > 0:
		k := dead[len(dead)-1]
		return nil, &exitError{exitNo, fmt.Errorf("no: the key %s (%s) is %s", k.GetId(), printable(k.GetName()),
			strings.ToLower(strings.TrimPrefix(k.GetState().String(), "KEY_STATE_")))}
	}
	return nil, usage("there is no key %q; see %q", as, "sallyport key list")
}

func allKeys(ctx context.Context, client authv1.KeyServiceClient) (all []*authv1.Key, err error) {
	for token := ""; ; {
		resp, err := client.ListKeys(ctx, &authv1.ListKeysRequest{PageToken: token})
		if err != nil {
			return nil, err
		}
		all = append(all, resp.GetKeys()...)
		if token = resp.GetNextPageToken(); token == "" {
			return all, nil
		}
	}
}

// arguments makes the JSON of name=value pairs, by the types that the tool's
// schema gives; nil, not known, if there is nothing.
func (a *asker) arguments(ctx context.Context, tool, object string, pairs []string) ([]byte, error) {
	if object == "" && len(pairs) == 0 {
		return nil, nil
	}
	values := make(map[string]any)
	if object != "" {
		if len(pairs) > 0 {
			return nil, usage("--args and --arg exclude each other")
		}
		if err := json.Unmarshal([]byte(object), &values); err != nil || values == nil {
			return nil, usage("--args: %q is not a JSON object", object)
		}
		return []byte(object), nil
	}
	resp, err := a.executor.ListTools(ctx, &executorv1.ListToolsRequest{})
	if err != nil {
		return nil, trouble(err)
	}
	var kinds map[string]string
	for _, t := range resp.GetTools() {
		if t.GetDefinition().GetName() == tool {
			if kinds, err = schemaKinds(t.GetDefinition().GetInputSchema()); err != nil {
				return nil, failed(fmt.Errorf("schema of %s: %w", tool, err))
			}
		}
	}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, usage("--arg: %q is not name=value", pair)
		}
		if _, twice := values[name]; twice {
			return nil, usage("--arg: %s is given twice", name)
		}
		values[name] = argument(kinds[name], value)
	}
	raw, err := json.Marshal(values)
	if err != nil {
		return nil, usage("--arg: %w", err)
	}
	return raw, nil
}

// unknownTool says that there is no such tool, and which one could be meant.
func (a *asker) unknownTool(ctx context.Context, name string) error {
	if resp, err := a.executor.ListTools(ctx, &executorv1.ListToolsRequest{}); err == nil {
		suggest := &cobra.Command{SuggestionsMinimumDistance: 3}
		for _, t := range resp.GetTools() {
			suggest.AddCommand(&cobra.Command{Use: t.GetDefinition().GetName(), Run: func(*cobra.Command, []string) {}})
		}
		if near := suggest.SuggestionsFor(name); len(near) > 0 {
			return usage("there is no tool %q; did you mean %q?", name, near[0])
		}
	}
	return usage("there is no tool %q; see %q", name, "sallyport tool list")
}

// trouble is an error of a call where the answer "no" has the exit code that
// failures have elsewhere. It is never nil.
func trouble(err error) *exitError {
	e := unanswered(err)
	if e.code == exitNo {
		e.code = exitUsage
	}
	return e
}

// unanswered is an error of a call without whose answer nothing goes on. After an
// interrupt it says nothing more.
func unanswered(err error) *exitError {
	var exit *exitError
	if !errors.As(rpcError(err), &exit) {
		exit = &exitError{code: exitNo}
	}
	return exit
}
