package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/keyring"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/policy"
)

// Simulator is a policy service without a system around it: it decides about
// described principals and tools, by candidates or else the default set, with
// the code that decides about real ones. It has no keys and no store, so putting
// and removing is not implemented. Its methods are safe for concurrent use.
//
// What calls it directly, and not through a server of package rpc, must have
// checked requests against their contract.
type Simulator struct {
	authv1.UnimplementedPolicyServiceServer

	defaults *policy.Set
	since    time.Time
}

// NewSimulator returns a simulator.
func NewSimulator() (*Simulator, error) {
	set, err := loadPolicies(nil)
	if err != nil {
		return nil, fmt.Errorf("default policies: %w", err)
	}
	return &Simulator{defaults: set, since: time.Now()}, nil
}

// GetPolicies implements [authv1.PolicyServiceServer]: it returns the default set.
func (s *Simulator) GetPolicies(context.Context, *authv1.GetPoliciesRequest) (*authv1.GetPoliciesResponse, error) {
	return &authv1.GetPoliciesResponse{
		Files:    protoFiles(s.defaults.Files()),
		Version:  s.defaults.Version(),
		Source:   authv1.PolicySource_POLICY_SOURCE_DEFAULT,
		LoadTime: timestamppb.New(s.since),
		Roles:    s.defaults.Roles(),
	}, nil
}

// CheckPolicies implements [authv1.PolicyServiceServer].
func (s *Simulator) CheckPolicies(_ context.Context, req *authv1.CheckPoliciesRequest) (*authv1.CheckPoliciesResponse, error) {
	return checkPolicies(req, nil), nil
}

// Simulate implements [authv1.PolicyServiceServer].
func (s *Simulator) Simulate(ctx context.Context, req *authv1.SimulateRequest) (*authv1.SimulateResponse, error) {
	none := func() ([]*keyring.Key, error) { return nil, nil }
	return simulate(ctx, req, newBackdrop(s.defaults, map[string]*tool{}), none)
}

// checkPolicies tells all that is wrong with a set, and what is odd. Where tools
// are known it looks whether those that are named exist.
func checkPolicies(req *authv1.CheckPoliciesRequest, tools map[string]*tool) *authv1.CheckPoliciesResponse {
	files := filesOf(req.GetFiles())
	resp := &authv1.CheckPoliciesResponse{Version: policy.Version(files)}
	set, err := policy.Load(files)
	if err != nil {
		resp.Problems = protoProblems(problemsOf(err))
		return resp
	}
	warnings := set.Warnings()
	if tools != nil {
		warnings = append(warnings, set.UnknownTools(func(name string) bool { return tools[name] != nil })...)
		warnings = append(warnings, set.UnknownArguments(signatures(tools))...)
	}
	resp.Problems = protoProblems(warnings)
	return resp
}

// signatures are the tools as far as warnings need them, sorted by name.
func signatures(tools map[string]*tool) (all []policy.Signature) {
	for _, name := range slices.Sorted(maps.Keys(tools)) {
		t := tools[name]
		all = append(all, policy.Signature{Tool: t.object, Arguments: t.arguments, Known: t.argumentsKnown})
	}
	return all
}

// maxPolicyProblems is what the contract has room for.
const maxPolicyProblems = 256

// problemsOf returns the problems that an error is about.
func problemsOf(err error) policy.Problems {
	if ps, ok := errors.AsType[policy.Problems](err); ok {
		return ps
	}
	return policy.Problems{{Message: err.Error()}}
}

func protoProblems(ps policy.Problems) (out []*authv1.PolicyProblem) {
	for _, p := range ps[:min(len(ps), maxPolicyProblems)] {
		out = append(out, &authv1.PolicyProblem{
			File: clip(p.File, 128), Line: uint32(max(0, p.Line)), Message: clip(p.Message, maxMessage), Warning: p.Warning,
		})
	}
	return out
}

func protoFiles(files []policy.File) (out []*authv1.PolicyFile) {
	for _, f := range files {
		out = append(out, &authv1.PolicyFile{Name: f.Name, Text: f.Text})
	}
	return out
}

func filesOf(in []*authv1.PolicyFile) (files []policy.File) {
	for _, f := range in {
		files = append(files, policy.File{Name: f.GetName(), Text: f.GetText()})
	}
	return files
}

// policyFault says what is first wrong with policies.
func policyFault(err error) error {
	ps := problemsOf(err)
	return fault.New(codes.InvalidArgument, authv1.Reason_REASON_POLICY, "%s", clip(ps[0].String(), maxMessage))
}
