package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The size of the catalogue and of the policies, as the goals have them.
const (
	listedTools  = 1000
	listPolicies = 200
)

// listName is in the name of all servers that are measured with lists.
const listName = "tools/list"

// listed is what every tool of a list has once.
const listed = `"inputSchema":`

// defaultPage is how many tools there are on a page where nothing is configured.
const defaultPage = 100

// listing are tools/list of a provider's thousand tools: the first page as it is by
// default, and all tools on one page. Nothing has changed since the list before, which
// is how lists are mostly asked for.
func listing(program, dir string) (suite, error) {
	document, policies := filepath.Join(dir, "api.json"), filepath.Join(dir, "many.cedar")
	text, err := manyOperations()
	if err != nil {
		return suite{}, err
	}
	if err := errors.Join(os.WriteFile(document, text, 0o600), os.WriteFile(policies, []byte(manyPolicies()), 0o600)); err != nil {
		return suite{}, err
	}
	part := suite{
		title: fmt.Sprintf("one tools/list where there are %d tools and %d policies", listedTools, listPolicies),
		cells: []cell{{1, 50, 1000}, {16, 100, 4000}},
		request: func(o options, s *server) request {
			return request{text: post(o.era, s.address, s.key, "tools/list", "", ""), mark: listed, count: s.page}
		},
		prepare: awaitList,
	}
	for _, args := range [][]string{nil, {"--processes"}} {
		for _, page := range []int{defaultPage, listedTools} {
			name := listName + ", one process"
			if args != nil {
				name = listName + ", processes"
			}
			name = fmt.Sprintf("%s, page of %d", name, page)
			part.all = append(part.all, contestant{
				name, listServer(program, filepath.Join(dir, strings.ReplaceAll(name, "/", "-")), document, policies, page, args),
			})
		}
	}
	return part, nil
}

// listServer starts Sallyport with an API whose operations are tools. Nobody calls it.
func listServer(program, stateDir, document, policies string, page int, args []string) func(context.Context) (*server, error) {
	config := rules + fmt.Sprintf(`
  edge: {page_size: %d}
  auth: {policies: [%q]}
  openapi:
    apis: [{name: many, prefix: "", file: %q, base_url: "http://127.0.0.1:9", addresses: [127.0.0.0/8], max_tools: %d}]
`, page, policies, document, listedTools)
	start := sallyport(program, stateDir, config, args...)
	return func(ctx context.Context) (*server, error) {
		s, err := start(ctx)
		if err == nil {
			s.page = page
		}
		return s, err
	}
}

// awaitList waits until all tools have joined.
func awaitList(ctx context.Context, r request, s *server) error {
	const longest = time.Minute
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	for last := error(nil); ; {
		_, err := drive(ctx, load{s.address, r, 1, 1, longest})
		if err == nil {
			return nil
		}
		if ctx.Err() != nil { // which cut it off
			return fmt.Errorf("the tools have not joined within %v: %w", longest, errors.Join(last, err))
		}
		last = err
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// manyOperations is an OpenAPI document.
func manyOperations() ([]byte, error) {
	type object = map[string]any
	paths := make(object)
	for i := range listedTools {
		paths[fmt.Sprintf("/things/%d/{name}", i)] = object{"get": object{
			"operationId": fmt.Sprintf("tool_%d", i),
			"description": "Looks something up, by its name. It changes nothing.",
			"tags":        []string{fmt.Sprintf("t%d", i%17)},
			"parameters": []object{{
				"name": "name", "in": "path", "required": true, "description": "Name of the thing.",
				"schema": object{"type": "string", "minLength": 1, "maxLength": 64},
			}},
			"responses": object{"200": object{"description": "The thing.", "content": object{"application/json": object{"schema": object{
				"type": "object", "required": []string{"summary"},
				"properties": object{"summary": object{"type": "string", "maxLength": 1000, "description": "A sentence about it."}},
			}}}}},
		}}
	}
	return json.Marshal(object{"openapi": "3.1.0", "info": object{"title": "many", "version": "1"}, "paths": paths})
}

// manyPolicies are some for all, some for the role that is measured, most for others;
// of each kind, some look at the tool, at the context or at arguments.
func manyPolicies() string {
	var b strings.Builder
	b.WriteString(`@id("admins") permit (principal in Role::"admin", action, resource);
@id("lists") permit (principal, action in Action::"list", resource);
@id("interns") permit (principal in Role::"intern", action == Action::"tools/call", resource is Tool) when { resource.sensitivity == "public" };
@id("analysts") permit (principal in Role::"analyst", action == Action::"tools/call", resource is Tool) when { resource.risk == "read" };
@id("far") @reason("Too far.") forbid (principal, action == Action::"tools/call", resource is Tool) when { context.hops > 10 };
@id("here") @reason("Not from there.") forbid (principal, action == Action::"tools/call", resource is Tool)
  unless { context has address && (context.address.isLoopback() || context.address.isInRange(ip("192.0.2.0/24"))) };
`)
	const others = 6
	for i := range listPolicies - others {
		role := fmt.Sprintf("team-%d", i/5)
		if i%10 < 2 {
			role = "analyst"
		}
		fmt.Fprintf(&b, "@id(\"p%d\") @reason(\"Because of p%d.\")\n", i, i)
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "permit (principal in Role::%q, action == Action::\"tools/call\", resource in Service::\"service-%d\") when { resource.risk == \"write\" };\n", role, i)
		case 1:
			fmt.Fprintf(&b, "permit (principal in Role::%q, action == Action::\"tools/call\", resource is Tool) when { context.hops < 3 && resource.tags.contains(\"t%d\") };\n", role, i%17)
		case 2:
			fmt.Fprintf(&b, "permit (principal in Role::%q, action, resource == Tool::\"tool_%d\") when { context.arguments.n < 10 };\n", role, i)
		case 3:
			fmt.Fprintf(&b, "forbid (principal, action == Action::\"tools/call\", resource == Tool::\"tool_%d\") when { context.hops > 5 };\n", i)
		case 4:
			fmt.Fprintf(&b, "permit (principal in Role::%q, action == Action::\"resources/read\", resource is Resource) when { resource.scheme == \"s%d\" };\n", role, i)
		}
	}
	return b.String()
}
