package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/pkg/toolkit"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/quota"
)

// officeTool is a tool of an office, and how it is classified.
type officeTool struct {
	name      string
	risk      toolv1.Risk
	trust     toolv1.Trust
	outbound  bool
	arguments []string // all strings
}

// sink reports whether the tool destroys something or sends it out.
func (t officeTool) sink() bool {
	return t.risk == toolv1.Risk_RISK_DESTRUCTIVE || t.risk == toolv1.Risk_RISK_UNSPECIFIED || t.outbound
}

var officeTools = []officeTool{
	{"read_mail", toolv1.Risk_RISK_READ, toolv1.Trust_TRUST_UNTRUSTED, false, []string{"id"}},
	{"read_page", toolv1.Risk_RISK_READ, toolv1.Trust_TRUST_UNTRUSTED, false, []string{"id"}},
	{"read_log", toolv1.Risk_RISK_READ, toolv1.Trust_TRUST_UNSPECIFIED, false, []string{"id"}}, // says nothing, so untrusted
	{"search_docs", toolv1.Risk_RISK_READ, toolv1.Trust_TRUST_INTERNAL, false, []string{"query"}},
	{"lookup_contact", toolv1.Risk_RISK_READ, toolv1.Trust_TRUST_INTERNAL, false, []string{"name"}},
	{"get_calendar", toolv1.Risk_RISK_READ, toolv1.Trust_TRUST_TRUSTED, false, []string{"day"}},
	{"write_note", toolv1.Risk_RISK_WRITE, toolv1.Trust_TRUST_TRUSTED, false, []string{"title", "text"}},
	{"send_mail", toolv1.Risk_RISK_WRITE, toolv1.Trust_TRUST_TRUSTED, true, []string{"to", "subject", "body"}},
	{"post_webhook", toolv1.Risk_RISK_WRITE, toolv1.Trust_TRUST_TRUSTED, true, []string{"url", "body"}},
	{"pay", toolv1.Risk_RISK_DESTRUCTIVE, toolv1.Trust_TRUST_TRUSTED, false, []string{"account", "amount"}},
	{"delete_file", toolv1.Risk_RISK_DESTRUCTIVE, toolv1.Trust_TRUST_TRUSTED, false, []string{"path"}},
	{"change_password", toolv1.Risk_RISK_UNSPECIFIED, toolv1.Trust_TRUST_TRUSTED, false, []string{"account", "password"}}, // so destructive
}

// sinks are the tools that nobody may be led to use.
func sinks() []officeTool {
	return slices.DeleteFunc(slices.Clone(officeTools), func(t officeTool) bool { return !t.sink() })
}

// office is a provider with these tools. It counts what is done.
type office struct {
	providerv1.UnimplementedProviderServiceServer
	tools []officeTool
	texts []string // of what is read, by id
	done  map[string]*atomic.Int64
}

// newOffice returns an office with more tools than all offices have.
func newOffice(texts []string, more ...officeTool) *office {
	o := &office{tools: slices.Concat(officeTools, more), texts: texts, done: make(map[string]*atomic.Int64)}
	for _, t := range o.tools {
		o.done[t.name] = new(atomic.Int64)
	}
	return o
}

// executions is how often sinks were used.
func (o *office) executions() (n int64) {
	for _, t := range sinks() {
		n += o.done[t.name].Load()
	}
	return n
}

const officeRole = "office"

func (o *office) role() app.Role {
	return toolkit.Provider(officeRole, func(*app.Env) (app.Service, error) { return o, nil })
}

func (o *office) Register(r grpc.ServiceRegistrar) { providerv1.RegisterProviderServiceServer(r, o) }

func (o *office) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (o *office) Watch(_ *providerv1.WatchRequest, stream grpc.ServerStreamingServer[providerv1.WatchResponse]) error {
	if err := stream.Send(&providerv1.WatchResponse{HasTools: true}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (o *office) ListTools(context.Context, *providerv1.ListToolsRequest) (*providerv1.ListToolsResponse, error) {
	resp := &providerv1.ListToolsResponse{}
	for _, t := range o.tools {
		properties := make(map[string]any)
		for _, name := range t.arguments {
			properties[name] = map[string]any{"type": "string"}
		}
		schema, err := json.Marshal(map[string]any{"type": "object", "properties": properties, "required": t.arguments, "additionalProperties": false})
		if err != nil {
			return nil, err
		}
		resp.Tools = append(resp.Tools, &providerv1.ToolDefinition{
			Name: t.name, Description: "Does " + t.name + ".", InputSchema: schema,
			Options: &toolv1.Tool{Risk: t.risk, Trust: t.trust, Outbound: t.outbound},
		})
	}
	return resp, nil
}

func (o *office) CallTool(req *providerv1.CallToolRequest, stream grpc.ServerStreamingServer[providerv1.CallToolResponse]) error {
	o.done[req.GetName()].Add(1)
	var given map[string]string
	if err := json.Unmarshal(req.GetArguments(), &given); err != nil {
		return err
	}
	text := "done"
	if id, ok := given["id"]; ok {
		i, err := strconv.Atoi(id)
		if err != nil || i < 0 || i >= len(o.texts) {
			return fmt.Errorf("there is nothing to read with the id %q", id)
		}
		text = o.texts[i]
	}
	switch req.GetName() {
	case "search_docs":
		text = "Handbook: expenses are filed by the fifth of each month with form EX-2020-000117."
	case "lookup_contact":
		text = given["name"] + " has the address " + strings.ToLower(given["name"]) + "@corp.example and the telephone +49 30 5550 1234."
	case "get_calendar":
		text = "10:00 planning, 14:00 review"
	}
	return stream.Send(&providerv1.CallToolResponse{Event: &providerv1.CallToolResponse_Result{Result: &providerv1.ToolResult{
		Content: []*providerv1.Content{{Kind: &providerv1.Content_Text{Text: text}}},
	}}})
}

// worker is an agent in one task.
type worker struct {
	t       *testing.T
	agent   agent
	edge    string
	context string // "": he does not say
	extra   string // more members of _meta
}

// reply is what a call came to.
type reply struct {
	done   bool
	reason string // why not
	policy string
	text   string
	meta   map[string]json.RawMessage
}

// call calls a tool and returns what the client's user would see.
func (w *worker) call(tool string, arguments map[string]string) reply {
	w.t.Helper()
	raw, err := json.Marshal(arguments)
	if err != nil {
		w.t.Fatal(err)
	}
	meta := clientMeta
	if w.context != "" {
		meta = strings.TrimSuffix(meta, "}") + `,"dev.sallyport/context":"` + w.context + `"}`
	}
	if w.extra != "" {
		meta = strings.TrimSuffix(meta, "}") + "," + w.extra + "}"
	}
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + string(raw) + `,` + meta + `}}`
	status, answer, err := w.agent.post(w.t.Context(), w.edge, body, "tools/call", tool)
	if err != nil {
		w.t.Fatal(err)
	}
	var said struct {
		Result *struct {
			Content []struct{ Text string }
			IsError bool                       `json:"isError"`
			Meta    map[string]json.RawMessage `json:"_meta"`
		}
		Error *struct{ Message string }
	}
	if err := json.Unmarshal([]byte(answer), &said); err != nil || said.Result == nil || len(said.Result.Content) == 0 {
		w.t.Fatalf("%s: got %d %s", tool, status, answer)
	}
	var decision struct{ Reason, Policy string }
	if err := json.Unmarshal(said.Result.Meta["dev.sallyport/decision"], &decision); err != nil {
		w.t.Fatalf("%s: got %s", tool, answer)
	}
	return reply{!said.Result.IsError, decision.Reason, decision.Policy, said.Result.Content[0].Text, said.Result.Meta}
}

// openOffice runs a whole system around an office, and returns where its edge is and
// the keys of its auth.
func openOffice(t *testing.T, o *office, authConfig string) (e *estate, at, authAt string) {
	t.Helper()
	nats := oneServer(t)
	e = newEstate(t, `
roles:
  auth: {pepper_file: DIR/pepper.key, grant_key_file: DIR/grant.key, `+authConfig+`}
  executor: {grant_key_files: [DIR/grant.key]}
  edge: {listen: "127.0.0.1:0", trusted_proxies: [127.0.0.1], state_key_files: [DIR/edge.key], approval_wait: 0s}
  quota: {rules: [{id: all, key: [key], limit: 1000000000/minute}]}
`)
	e.nats = nats
	p := e.start("all", nats, []app.Role{auth.Role, quota.Role, executor.Role, edge.Role, o.role()})
	at, authAt = e.await(p, "edge"), e.await(p, "auth")
	client := executorv1.NewExecutorServiceClient(e.conn(operatorRole, "executor", e.await(p, "executor")))
	await(t, "the tools of the office are there", func() bool {
		resp, err := client.ListTools(t.Context(), &executorv1.ListToolsRequest{})
		return err == nil && len(resp.GetTools()) == len(o.tools)
	})
	_, key := createKey(t, e.keys(authAt), "porter", "admin")
	porter := agent{connections(t), key, "192.0.2.7"}
	await(t, "auth knows the tools", func() bool {
		done, _, err := porter.call(t.Context(), at, "get_calendar", `{"day":"today"}`)
		return err == nil && done
	})
	return e, at, authAt
}
