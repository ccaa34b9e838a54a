package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/services/audit"
	"github.com/sallyport-mcp/sallyport/services/auth"
	"github.com/sallyport-mcp/sallyport/services/edge"
	"github.com/sallyport-mcp/sallyport/services/executor"
	"github.com/sallyport-mcp/sallyport/services/quota"
	"github.com/sallyport-mcp/sallyport/services/tools/customers"
	"github.com/sallyport-mcp/sallyport/services/tools/logs"
	"github.com/sallyport-mcp/sallyport/services/tools/mcpbridge"
	"github.com/sallyport-mcp/sallyport/services/tools/openapi"
	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery"
)

// sections returns the section of each role that has one, with its defaults.
func sections() map[string]app.Validator {
	e, a, q, x, u := edge.DefaultConfig(), auth.DefaultConfig(), quota.DefaultConfig(), executor.DefaultConfig(), audit.DefaultConfig()
	s, c, l, b := sqlquery.DefaultConfig(), customers.DefaultConfig(), logs.DefaultConfig(), mcpbridge.DefaultConfig()
	r := openapi.DefaultConfig()
	return map[string]app.Validator{
		"edge": &e, "auth": &a, "quota": &q, "executor": &x, "audit": &u,
		"sqlquery": &s, "customers": &c, "logs": &l, "mcpbridge": &b, "openapi": &r,
	}
}

func configCommand(o *operator) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check and describe the configuration", Args: cobra.ArbitraryArgs, RunE: group}
	cmd.AddCommand(&cobra.Command{
		Use: "validate [FILE]", Short: "Check a configuration file", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := o.config
			if len(args) > 0 {
				file = args[0]
			}
			if file == "" {
				return usage("name a file")
			}
			if err := validateConfig(file); err != nil {
				return &exitError{exitUsage, err}
			}
			fmt.Fprintln(cmd.OutOrStdout(), file+" is good")
			return nil
		},
	}, &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the configuration file", Args: cobra.NoArgs,
		Example: "  sallyport config schema > sallyport.schema.json   # then: # yaml-language-server: $schema=sallyport.schema.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return writeJSON(cmd.OutOrStdout(), configSchema())
		},
	})
	return cmd
}

// validateConfig reports every mistake in a file, of all sections.
func validateConfig(file string) error {
	cfg, err := app.Load(file)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range cfg.Unknown(roleNames()...) {
		errs = append(errs, fmt.Errorf("roles.%s (line %d): there is no such role", name, line(cfg, name)))
	}
	for role, section := range sections() {
		err := cfg.Section(role, section)
		if q, ok := section.(*quota.Config); ok && err == nil {
			err = q.CheckFiles()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func line(cfg app.Config, role string) int { n := cfg.Roles[role]; return n.Line }

// configSchema describes the file by the structs it is read into.
func configSchema() map[string]any {
	s := schemaOf(reflect.TypeFor[app.Config]())
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "Sallyport configuration"
	roles := map[string]any{}
	for role, section := range sections() {
		roles[role] = schemaOf(reflect.TypeOf(section).Elem())
	}
	if props, ok := s["properties"].(map[string]any); ok {
		props["roles"] = map[string]any{"type": "object", "additionalProperties": false, "properties": roles}
	}
	return s
}

func schemaOf(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return map[string]any{"type": "string", "examples": []string{"5s", "10m"}}
	case t == reflect.TypeFor[yaml.Node]():
		return map[string]any{}
	case reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.Unmarshaler]()):
		return map[string]any{} // has a form of its own
	case reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem())
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem())}
	case reflect.Struct:
		props := map[string]any{}
		addFields(props, t)
		return map[string]any{"type": "object", "additionalProperties": false, "properties": props}
	}
	return map[string]any{}
}

func addFields(props map[string]any, t reflect.Type) {
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case strings.Contains(opts, "inline"):
			addFields(props, f.Type)
		default:
			if name == "" {
				name = strings.ToLower(f.Name)
			}
			props[name] = schemaOf(f.Type)
		}
	}
}
