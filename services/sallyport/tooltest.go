package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// toolSuite is a file of tests of tools.
type toolSuite struct {
	Cases []toolCase `yaml:"cases"`

	path  string
	lines []int // of cases
}

// toolCase is a call, and what should come of it.
type toolCase struct {
	Name      string         `yaml:"name"`
	As        string         `yaml:"as"`
	Call      string         `yaml:"call"`
	Arguments map[string]any `yaml:"arguments"`
	Result    map[string]any `yaml:"result"`
	Contains  string         `yaml:"contains"`
	Error     string         `yaml:"error"`
}

func toolTestCommand(o *operator) *cobra.Command {
	var out output
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "test FILE.yaml…",
		Short: "Run tests of tools: calls on the real way, and what should come of them",
		Long: `Calls tools as an agent would, over MCP, and compares what comes of it.

  cases:
    - name: a city that is known
      call: get_weather
      arguments: {city: Oslo}
      as: analyst                 # optional: a demo key; else what --as or --key-file says
      result: {sky: clouds}       # optional: these fields of the result; others may be there
      contains: clouds            # optional: a part of its text
    - name: a city that nobody knows
      call: get_weather
      arguments: {city: Atlantis}
      error: is not known         # it has to fail, with this in its text`,
		Example: `  sallyport tool test cases.yaml
  SALLYPORT_KEY=sp_… sallyport tool test cases.yaml --url https://tools.example.com/mcp`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			suites, err := readToolSuites(args)
			if err != nil {
				return err
			}
			var results []toolVerdict
			for _, s := range suites {
				for i, c := range s.Cases {
					client, err := o.client(cmd.InOrStdin(), flags.of(c.As))
					if err != nil {
						return err
					}
					v, err := c.run(cmd.Context(), client)
					if err != nil {
						return mcpError(fmt.Errorf("%s: %w", s.at(i), err))
					}
					v.At = s.at(i)
					results = append(results, v)
				}
			}
			return showToolVerdicts(cmd.OutOrStdout(), &out, results)
		},
	}
	out.register(cmd)
	cmd.Flags().StringVar(&flags.url, "url", "", "MCP `endpoint` (default: the running instance's)")
	cmd.Flags().StringVar(&flags.as, "as", "", "demo `key` for cases that name none (default admin, unless SALLYPORT_KEY is set)")
	cmd.Flags().StringVar(&flags.keyFile, "key-file", "", "`file` that holds the API key for all cases")
	return cmd
}

// of are the flags for a case that names a demo key. A key in a file is for all.
func (f clientFlags) of(as string) clientFlags {
	if f.keyFile == "" && as != "" {
		f.as = as
	}
	return f
}

// readToolSuites reads all files, and tells all that is wrong with any.
func readToolSuites(paths []string) (all []*toolSuite, err error) {
	var errs []error
	for _, path := range paths {
		s, err := readToolSuite(path)
		errs = append(errs, err)
		all = append(all, s)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return all, nil
}

func readToolSuite(path string) (*toolSuite, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &toolSuite{path: path}
	if err := strictYAML(path, text, s); err != nil {
		return nil, err
	}
	if s.lines, err = caseLines(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(s.Cases) == 0 {
		return nil, fmt.Errorf("%s: no cases", path)
	}
	var errs []error
	for i, c := range s.Cases {
		if c.Call == "" {
			errs = append(errs, fmt.Errorf("%s: call is missing: which tool?", s.at(i)))
		}
		if c.Error != "" && (c.Result != nil || c.Contains != "") {
			errs = append(errs, fmt.Errorf("%s: error excludes result and contains", s.at(i)))
		}
	}
	return s, errors.Join(errs...)
}

// at is where a case is written.
func (s *toolSuite) at(i int) string { return fmt.Sprintf("%s:%d", s.path, s.lines[i]) }
