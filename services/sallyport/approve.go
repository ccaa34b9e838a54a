package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	providerv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/provider/v1"
)

// approvalCommands look at definitions that are withheld and release them.
func approvalCommands(o *operator) []*cobra.Command {
	return []*cobra.Command{toolWithheldCommand(o), toolDiffCommand(o), toolApproveCommand(o)}
}

// clerk does the work of these commands, apart from where the executor and the
// terminal are.
type clerk struct {
	client executorv1.ApprovalServiceClient
	in     *bufio.Reader
	out    io.Writer
	err    io.Writer
	json   bool
	asks   bool // there is somebody to ask
	colour bool
}

// with calls a command's work with a clerk for it.
func (o *operator) with(cmd *cobra.Command, out output, work func(*clerk) error) error {
	conn, err := o.dial("executor")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // the process ends
	return work(&clerk{
		client: executorv1.NewApprovalServiceClient(conn),
		in:     bufio.NewReader(cmd.InOrStdin()),
		out:    cmd.OutOrStdout(),
		err:    cmd.ErrOrStderr(),
		json:   out.json(),
		asks:   terminal(cmd.InOrStdin()) && !out.json(),
		colour: terminal(cmd.OutOrStdout()) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	})
}

func toolWithheldCommand(o *operator) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "withheld",
		Short: "List the tools that are withheld until they are approved",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.with(cmd, out, func(c *clerk) error { return c.withheld(cmd.Context()) })
		},
	}
	out.register(cmd)
	return cmd
}

func toolDiffCommand(o *operator) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "diff NAME",
		Short: "Show how a tool differs from what was approved, or was changed last",
		Long: `Diff shows what approving a tool would change, or all of a tool that is new. Of a tool
that is not withheld it shows the last change, also one that nobody had to approve.
Characters that cannot be seen are shown as <U+202E>.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.with(cmd, out, func(c *clerk) error { return c.diff(cmd.Context(), args[0]) })
		},
	}
	out.register(cmd)
	return cmd
}

func toolApproveCommand(o *operator) *cobra.Command {
	var out output
	var all, yes bool
	var by string
	cmd := &cobra.Command{
		Use:   "approve NAME... | --all",
		Short: "Release tools that are withheld",
		Example: `  sallyport tool approve github_search
  sallyport tool approve --all --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usage("say which tools to approve, or --all")
			}
			if by == "" {
				by = person()
			}
			return o.with(cmd, out, func(c *clerk) error { return c.approve(cmd.Context(), args, by, yes) })
		},
	}
	out.register(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all that are withheld")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().StringVar(&by, "by", "", "`person` who approves, for the record (default: the user of this machine)")
	return cmd
}

func (c *clerk) withheld(ctx context.Context) error {
	resp, err := c.client.ListDefinitions(ctx, &executorv1.ListDefinitionsRequest{Withheld: true})
	if err != nil {
		return rpcError(err)
	}
	rows := [][]string{{"NAME", "SERVICE", "STATE", "APPROVED", "BY"}}
	list := []map[string]any{}
	for _, d := range resp.GetDefinitions() {
		rows = append(rows, []string{d.GetTool(), d.GetService(), state(d), stamp(d.GetApproved().GetTime()), d.GetApproved().GetBy()})
		list = append(list, summary(d))
	}
	if c.json {
		return writeJSON(c.out, list)
	}
	return table(c.out, rows)
}

func (c *clerk) diff(ctx context.Context, name string) error {
	d, err := c.fetch(ctx, name)
	if err != nil {
		return rpcError(err)
	}
	if c.json {
		all := summary(d)
		all["offered_definition"] = plainDefinition(d.GetOffered())
		all["diff"] = changes(d)
		if old := d.GetApproved().GetDefinition(); old != nil {
			all["approved_definition"] = plainDefinition(old)
		}
		if text := lastChange(d); text != "" && d.GetApproved().GetReplaced() != nil {
			all["last_change"] = change(d.GetApproved(), text)
		}
		return writeJSON(c.out, all)
	}
	c.show(d)
	c.print(lastChange(d))
	return nil
}

// approve shows and asks about each tool by its name, or about all that are
// withheld. What is approved is what was shown: the digest goes with it.
func (c *clerk) approve(ctx context.Context, names []string, by string, yes bool) error {
	if !yes && !c.asks {
		return usage("there is no terminal to ask on; look with %q and then use --yes", "sallyport tool diff")
	}
	if len(names) == 0 {
		resp, err := c.client.ListDefinitions(ctx, &executorv1.ListDefinitionsRequest{Withheld: true})
		if err != nil {
			return rpcError(err)
		}
		for _, d := range resp.GetDefinitions() {
			names = append(names, d.GetTool())
		}
	}
	done, wanted := []map[string]any{}, 0
	var err error
	for i := 0; i < len(names) && err == nil && ctx.Err() == nil; i++ {
		var withheld bool
		var d *executorv1.Definition
		if withheld, d, err = c.decide(ctx, names[i], by, yes); withheld {
			wanted++
		}
		if d != nil {
			done = append(done, summary(d))
		}
	}
	switch {
	case c.json:
		if err := writeJSON(c.out, done); err != nil {
			return failed(err)
		}
	case wanted == 0 && err == nil:
		fmt.Fprintln(c.out, "nothing to approve")
	default:
		fmt.Fprintf(c.out, "%d of %d tools approved\n", len(done), wanted)
	}
	if err != nil {
		return rpcError(err)
	}
	if len(done) < wanted {
		return &exitError{code: exitNo}
	}
	return nil
}

// decide shows and asks about one tool. It reports whether the tool was withheld,
// and returns its definition if that was approved.
func (c *clerk) decide(ctx context.Context, name, by string, yes bool) (withheld bool, approved *executorv1.Definition, err error) {
	d, err := c.fetch(ctx, name)
	if err != nil {
		return false, nil, err
	}
	if d.GetState() == executorv1.DefinitionState_DEFINITION_STATE_APPROVED {
		fmt.Fprintf(c.err, "%s is not withheld\n", printable(name))
		return false, nil, nil
	}
	if !c.json {
		c.show(d)
	}
	if !yes && !c.agreed(ctx, d) {
		return true, nil, nil
	}
	resp, err := c.client.Approve(ctx, &executorv1.ApproveRequest{Tool: d.GetTool(), Digest: d.GetDigest(), By: by})
	return true, resp.GetDefinition(), err
}

// fetch returns one definition, whole. Its error is that of the call.
func (c *clerk) fetch(ctx context.Context, name string) (*executorv1.Definition, error) {
	resp, err := c.client.ListDefinitions(ctx, &executorv1.ListDefinitionsRequest{Tool: name})
	if err != nil {
		return nil, err
	}
	if len(resp.GetDefinitions()) == 0 {
		return nil, fmt.Errorf("no service offers a tool %q", name)
	}
	return resp.GetDefinitions()[0], nil
}

// show prints what is new of a definition.
func (c *clerk) show(d *executorv1.Definition) {
	text := fmt.Sprintf("%s of %s is %s", printable(d.GetTool()), printable(d.GetService()), state(d))
	if a := d.GetApproved(); a != nil {
		text += fmt.Sprintf("; last approved %s by %s", stamp(a.GetTime()), printable(a.GetBy()))
	}
	fmt.Fprintln(c.out, text)
	c.print(changes(d))
}

// print prints lines of a diff.
func (c *clerk) print(text string) {
	if c.colour {
		text = coloured(text)
	}
	fmt.Fprint(c.out, text)
}

// agreed asks. An end of input is a no.
func (c *clerk) agreed(ctx context.Context, d *executorv1.Definition) bool {
	fmt.Fprintf(c.err, "approve %s? [y/N] ", printable(d.GetTool()))
	answer := make(chan string, 1)
	go func() { // a read of a terminal cannot be ended; after an interrupt the process does
		line, _ := c.in.ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		word := strings.ToLower(strings.TrimSpace(line))
		return word == "y" || word == "yes"
	case <-ctx.Done():
		fmt.Fprintln(c.err)
		return false
	}
}

func state(d *executorv1.Definition) string {
	return strings.ToLower(strings.TrimPrefix(d.GetState().String(), "DEFINITION_STATE_"))
}

// summary is a definition in short, for programs.
func summary(d *executorv1.Definition) map[string]any {
	return map[string]any{
		"name": d.GetTool(), "service": d.GetService(), "state": state(d), "digest": hex.EncodeToString(d.GetDigest()),
		"approved": stamp(d.GetApproved().GetTime()), "approved_by": d.GetApproved().GetBy(), "approved_digest": hex.EncodeToString(d.GetApproved().GetDigest()),
	}
}

// change is the last one of a tool, for programs.
func change(a *executorv1.Approval, text string) map[string]any {
	was := a.GetReplaced()
	all := map[string]any{
		"time": stamp(a.GetTime()), "by": a.GetBy(), "held": held(a), "text": text,
		"before_approved": stamp(was.GetTime()), "before_approved_by": was.GetBy(), "before_digest": hex.EncodeToString(was.GetDigest()),
	}
	if d := was.GetDefinition(); d != nil {
		all["before_definition"] = plainDefinition(d)
	}
	return all
}

// plainDefinition is a definition for programs, its JSON as JSON.
func plainDefinition(d *providerv1.ToolDefinition) map[string]any {
	all := map[string]any{"name": d.GetName(), "title": d.GetTitle(), "description": d.GetDescription(), "options": strings.Split(strings.TrimSpace(head(d)), "\n")}
	for name, raw := range map[string][]byte{"input_schema": d.GetInputSchema(), "output_schema": d.GetOutputSchema(), "meta": d.GetMeta()} {
		switch {
		case json.Valid(raw):
			all[name] = json.RawMessage(raw)
		case len(raw) > 0:
			all[name] = string(raw)
		}
	}
	return all
}

// terminal reports whether a person may be at the other end.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// person is who runs the program, as this machine says.
func person() string {
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "unknown"
	}
	return u.Username
}
