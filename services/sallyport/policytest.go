package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
)

func policyTestCommand(o *operator) *cobra.Command {
	var out output
	var policies []string
	var online bool
	cmd := &cobra.Command{
		Use:   "test FILE.yaml...",
		Short: "Run tests of policies: tables of who does what, and what should be decided",
		Long: `Test decides about each case by the code that decides about calls. A file that names its
policies needs no running system; one that names none is about the policies that hold there.

  policies: [policies]                 # files or folders, seen from this file
  tools:                               # a tool that does not say is destructive and untrusted
    - {name: get_customer, risk: read, sensitivity: confidential}
  cases:
    - name: interns see nothing confidential
      as: {roles: [intern]}            # or {key: NAME}; also id, name, owner, tenant, scopes
      call: get_customer               # or read: URI, or get: PROMPT
      arguments: {customer_id: 7}      # leave away: not known
      expect: deny                     # allow, deny, approval or depends
      policy: none                     # optional: the policy that decides
      reason: POLICY_DENIED            # optional

A case can also have address, client, protocol, context_source, hops, steps and time, and what
the context has seen before (nothing, if it does not say):

      seen: [{source: read_mail, trust: untrusted, sensitivity: internal, tenant: default}]
      from_untrusted: [to]             # arguments with values that were first read there`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l := atDesk(cmd, out)
			suites, err := readSuites(args)
			if err != nil {
				return err
			}
			alone := !online
			for _, s := range suites {
				if len(policies) > 0 {
					s.Policies = policies
				}
				alone = alone && len(s.Policies) > 0
			}
			if !alone {
				return o.legislating(cmd, out, func(l *legislator) error { return l.test(cmd.Context(), suites) })
			}
			if l.policies, err = offlinePolicies(); err != nil {
				return failed(err)
			}
			return l.test(cmd.Context(), suites)
		},
	}
	out.register(cmd)
	cmd.Flags().StringArrayVar(&policies, "policies", nil, "test these `files` or folders instead of those that the tests name; may be repeated")
	cmd.Flags().BoolVar(&online, "online", false, "use the tools and keys of the running system, also where the tests name their policies")
	return cmd
}

// readSuites reads all files, and tells all that is wrong with any.
func readSuites(paths []string) (all []*suite, err error) {
	var errs []error
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s, err := readSuite(path, text)
		errs = append(errs, err)
		all = append(all, s)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return all, nil
}

// verdictOf is how a case went.
type verdictOf struct {
	suite  *suite
	index  int
	got    *authv1.Explanation
	wrongs []string // empty: as expected
}

func (v *verdictOf) test() *suiteCase { return &v.suite.Cases[v.index] }

func (v *verdictOf) name() string {
	c := v.test()
	return cmp.Or(c.Name, strings.TrimSpace(strings.Join([]string{cmp.Or(c.As.Key, strings.Join(c.As.Roles, " ")), c.Call + c.Read + c.Get}, " ")))
}

func (l *legislator) test(ctx context.Context, suites []*suite) error {
	var results []verdictOf
	for _, s := range suites {
		got, err := l.run(ctx, s)
		if err != nil {
			return err
		}
		results = append(results, got...)
	}
	bad := 0
	for _, r := range results {
		if len(r.wrongs) > 0 {
			bad++
		}
	}
	if err := l.showResults(results, bad); err != nil {
		return failed(err)
	}
	if bad > 0 {
		return &exitError{code: exitNo}
	}
	return nil
}

// run decides about all cases of a suite. Candidates are checked first, so that
// mistakes in them are told with their places.
func (l *legislator) run(ctx context.Context, s *suite) (results []verdictOf, err error) {
	var set policySet
	if len(s.Policies) > 0 {
		if set, err = readPolicies(s.Policies); err != nil {
			return nil, err
		}
		if err := l.good(ctx, set); err != nil {
			return nil, err
		}
	}
	var cases []*authv1.SimulatedCase
	for i := range s.Cases {
		c, err := s.Cases[i].simulated()
		if err != nil {
			return nil, usage("%s: %w", s.at(i), err)
		}
		cases = append(cases, c)
	}
	for chunk := range slices.Chunk(cases, 500) {
		resp, err := l.policies.Simulate(ctx, &authv1.SimulateRequest{Candidates: set.files, Cases: chunk, Tools: s.simulated()})
		if err != nil {
			e := trouble(err)
			if e.err != nil {
				e.err = fmt.Errorf("%s: %w", s.path, e.err)
			}
			return nil, e
		}
		for _, e := range resp.GetExplanations() {
			i := len(results)
			results = append(results, verdictOf{suite: s, index: i, got: e, wrongs: s.Cases[i].wrongs(e)})
		}
	}
	if len(results) != len(cases) {
		return nil, failed(fmt.Errorf("%s: %d answers to %d cases", s.path, len(results), len(cases)))
	}
	return results, nil
}

// good returns an error that tells all that is wrong with a set, if anything is.
func (l *legislator) good(ctx context.Context, set policySet) error {
	resp, err := l.policies.CheckPolicies(ctx, &authv1.CheckPoliciesRequest{Files: set.files})
	if err != nil {
		return trouble(err)
	}
	var errs []error
	for _, p := range resp.GetProblems() {
		if !p.GetWarning() {
			errs = append(errs, errors.New(visible(problemText(p, set.paths), false)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &exitError{exitUsage, err}
	}
	return nil
}

// wrongs says in what a decision is not the expected one.
func (c *suiteCase) wrongs(e *authv1.Explanation) (all []string) {
	if got := verdictName(e.GetVerdict()); got != c.Expect {
		all = append(all, fmt.Sprintf("got %s, want %s", got, c.Expect))
	}
	if want := strings.TrimPrefix(c.Policy, "none"); c.Policy != "" && e.GetPolicy() != want {
		all = append(all, fmt.Sprintf("got policy %s, want %s", cmp.Or(e.GetPolicy(), "none"), c.Policy))
	}
	if want, _ := reasonNumber(c.Reason); c.Reason != "" && e.GetReason() != want {
		all = append(all, fmt.Sprintf("got reason %s, want %s", cmp.Or(reasonName(e.GetReason()), "none"), c.Reason))
	}
	return all
}

// reasonNumber finds a reason by the name that people see.
func reasonNumber(name string) (auditv1.Reason, bool) {
	n, ok := auditv1.Reason_value["REASON_"+name]
	return auditv1.Reason(n), ok && n != 0
}

func (l *legislator) showResults(results []verdictOf, bad int) error {
	if l.json {
		list := []map[string]any{}
		for _, r := range results {
			list = append(list, map[string]any{
				"file": r.suite.path, "line": r.suite.lines[r.index], "name": r.name(), "pass": len(r.wrongs) == 0,
				"expected": r.test().Expect, "wrong": r.wrongs, "got": explanationJSON(r.got),
			})
		}
		return writeJSON(l.out, list)
	}
	rows := [][]string{{"", "CASE", "DECISION", "POLICY", "WHERE"}}
	for _, r := range results {
		mark := "ok"
		if len(r.wrongs) > 0 {
			mark = "FAIL"
		}
		rows = append(rows, []string{mark, r.name(), verdictName(r.got.GetVerdict()), cmp.Or(r.got.GetPolicy(), "-"), r.got.GetPolicySource()})
	}
	if err := table(l.out, rows); err != nil {
		return err
	}
	for _, r := range results {
		if len(r.wrongs) == 0 {
			continue
		}
		fmt.Fprintln(l.out)
		p := &paper{w: l.out, colour: l.colour}
		p.head("FAIL", r.name())
		p.line("case", r.suite.at(r.index))
		p.line("wrong", strings.Join(r.wrongs, "\n"))
		writeExplanation(p, r.got)
		if p.err != nil {
			return p.err
		}
	}
	fmt.Fprintf(l.out, "\n%d of %d cases are as expected\n", len(results)-bad, len(results))
	return nil
}
