package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/mcp"
)

func callCommand(o *operator) *cobra.Command {
	var out output
	var flags clientFlags
	var arguments string
	cmd := &cobra.Command{
		Use:   "call TOOL [name=value …]",
		Short: "Call a tool as an agent would, over MCP",
		Example: `  sallyport call echo text=hello
  sallyport call run_sql_query query='SELECT name FROM customers WHERE id = ?' parameters='[7]'
  sallyport call delete_customer_account customer_id=7 --as intern      (denied)
  SALLYPORT_KEY=sp_… sallyport call echo text=hello --url https://tools.example.com/mcp`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := o.client(cmd.InOrStdin(), flags)
			if err != nil {
				return err
			}
			values, err := callArguments(cmd.Context(), client, args[0], arguments, args[1:])
			if err != nil {
				return err
			}
			result, err := client.Call(cmd.Context(), args[0], values)
			if err != nil {
				return mcpError(err)
			}
			if out.json() {
				fmt.Fprintln(cmd.OutOrStdout(), string(result.Raw))
			} else {
				showResult(cmd.OutOrStdout(), result)
			}
			if result.IsError {
				return &exitError{code: exitNo}
			}
			return nil
		},
	}
	out.register(cmd)
	cmd.Flags().StringVar(&flags.url, "url", "", "MCP `endpoint` (default: the running instance's)")
	cmd.Flags().StringVar(&flags.as, "as", "", "demo `key` to use: admin, analyst or intern (default admin, unless SALLYPORT_KEY is set)")
	cmd.Flags().StringVar(&flags.keyFile, "key-file", "", "`file` that holds the API key, - for standard input")
	cmd.Flags().StringVar(&flags.proofKey, "proof-key", "", "`file` with the private key that the API key is bound to, as PEM or JWK")
	cmd.Flags().StringVar(&arguments, "args", "", "all arguments as one `JSON` object")
	return cmd
}

// clientFlags say which endpoint is called, and with what.
type clientFlags struct{ url, as, keyFile, proofKey string }

// client returns a client for the endpoint and key that flags, environment or
// the running instance name, in this order.
func (o *operator) client(stdin io.Reader, flags clientFlags) (mcp.Client, error) {
	as, keyFile := flags.as, flags.keyFile
	c := mcp.Client{URL: flags.url, Name: app.Version()}
	if flags.proofKey != "" {
		var err error
		if c.ProofKey, err = readPrivateProofKey(flags.proofKey); err != nil {
			return c, err
		}
	}
	switch {
	case keyFile != "" && as != "":
		return c, usage("--as and --key-file exclude each other")
	case keyFile == "-":
		b, err := io.ReadAll(io.LimitReader(stdin, 1<<16))
		if err != nil {
			return c, failed(err)
		}
		c.Key = strings.TrimSpace(string(b))
	case keyFile != "":
		b, err := os.ReadFile(keyFile)
		if err != nil {
			return c, usage("--key-file: %w", err)
		}
		c.Key = strings.TrimSpace(string(b))
	case as == "":
		c.Key = os.Getenv("SALLYPORT_KEY")
	}
	if c.URL != "" && c.Key != "" {
		return c, nil
	}
	if c.URL != "" {
		return c, usage("no key for %s: set SALLYPORT_KEY, or name a file with --key-file", c.URL)
	}
	i, err := o.instance()
	if err != nil {
		return c, err
	}
	c.URL = i.MCPURL
	if c.Key == "" {
		if as == "" {
			as = "admin"
		}
		if c.Key = i.Keys[as]; c.Key == "" {
			return c, usage("there is no demo key %q; there are admin, analyst and intern", as)
		}
	}
	return c, nil
}

// callArguments makes the arguments of name=value pairs, by the types that the
// tool's schema gives, or of one JSON object.
func callArguments(ctx context.Context, c mcp.Client, tool, object string, pairs []string) (map[string]any, error) {
	values := make(map[string]any)
	if object != "" {
		if len(pairs) > 0 {
			return nil, usage("--args and name=value exclude each other")
		}
		if err := json.Unmarshal([]byte(object), &values); err != nil {
			return nil, usage("--args: not a JSON object: %w", err)
		}
		return values, nil
	}
	var kinds map[string]string
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, usage("%q is not name=value", pair)
		}
		if kinds == nil {
			var err error
			if kinds, err = argumentKinds(ctx, c, tool); err != nil {
				return nil, mcpError(err)
			}
		}
		if _, twice := values[name]; twice {
			return nil, usage("%s is given twice", name)
		}
		values[name] = argument(kinds[name], value)
	}
	return values, nil
}

// argumentKinds returns the JSON type of each argument of a tool; nothing for a
// tool that is not listed, which the call itself will tell.
func argumentKinds(ctx context.Context, c mcp.Client, tool string) (map[string]string, error) {
	tools, err := c.Tools(ctx)
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{}
	for _, t := range tools {
		if t.Name != tool {
			continue
		}
		if kinds, err = schemaKinds(t.InputSchema); err != nil {
			return nil, fmt.Errorf("schema of %s: %w", tool, err)
		}
	}
	return kinds, nil
}

// schemaKinds returns the JSON type of each property of a schema.
func schemaKinds(raw []byte) (map[string]string, error) {
	var schema struct {
		Properties map[string]struct {
			Type any `json:"type"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		return nil, err
	}
	kinds := make(map[string]string)
	for name, p := range schema.Properties {
		kinds[name], _ = p.Type.(string)
	}
	return kinds, nil
}

// argument reads a value as the kind wants it. What does not fit is sent as text,
// so that the server says what is wrong with it.
func argument(kind, value string) any {
	if kind == "string" {
		return value
	}
	d := json.NewDecoder(strings.NewReader(value))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() {
		return value
	}
	return v
}

func showResult(w io.Writer, r *mcp.Result) {
	for _, c := range r.Content {
		if c.Type != "text" {
			fmt.Fprintf(w, "[%s]\n", printable(c.Type))
			continue
		}
		if showJSON(w, c.Text) {
			continue
		}
		// JSON may stand between the lines that mark it as data.
		for line := range strings.SplitSeq(c.Text, "\n") {
			if !strings.HasPrefix(line, "{") || !showJSON(w, line) {
				fmt.Fprintln(w, printable(line))
			}
		}
	}
}

// showJSON prints a text that is JSON, and reports whether it is.
func showJSON(w io.Writer, text string) bool {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return false
	}
	pretty, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		fmt.Fprintln(w, string(pretty))
	}
	return err == nil
}

func mcpError(err error) error {
	var e *mcp.Error
	switch {
	case errors.Is(err, mcp.ErrUnreachable):
		return &exitError{exitUnreachable, err}
	case errors.As(err, &e) && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden):
		return &exitError{exitForbidden, err}
	}
	return failed(err)
}
