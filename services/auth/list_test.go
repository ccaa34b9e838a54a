package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
	"github.com/sallyport-mcp/sallyport/services/auth"
)

// hashOf is the hash of the contract, for short names.
func hashOf(names ...string) []byte {
	var text []byte
	for _, name := range names {
		text = append(append(text, 0, 0, 0, byte(len(name))), name...)
	}
	sum := sha256.Sum256(text)
	return sum[:]
}

// listed asks by the hash of names and, if that is not known, by both. Asked by names
// alone auth must say the same. It returns nil if the credential is not good.
func (h *house) listed(t *testing.T, text, address string, names ...string) []string {
	t.Helper()
	req := &authv1.FilterToolsRequest{Credential: bearer(text), Origin: from(address), ToolsSha256: hashOf(names...)}
	resp, err := h.auth.FilterTools(t.Context(), req)
	if err == nil && resp.GetToolsNeeded() {
		req.Tools = names
		resp, err = h.auth.FilterTools(t.Context(), req)
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{Credential: req.GetCredential(), Origin: req.GetOrigin(), Tools: names})
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetPrincipal() == nil {
		if len(resp.GetAllowedBits())+len(plain.GetAllowed()) > 0 || plain.GetPrincipal() != nil {
			t.Errorf("got %v and %v for a credential that is not good", resp, plain)
		}
		return nil
	}
	allowed := []string{}
	for i, name := range names {
		if resp.GetAllowedBits()[i/8]>>(i%8)&1 == 1 {
			allowed = append(allowed, name)
		}
	}
	if len(resp.GetAllowed()) > 0 || len(resp.GetAllowedBits()) != (len(names)+7)/8 || !slices.Equal(allowed, plain.GetAllowed()) {
		t.Errorf("got %v by the hash and %v by names", resp, plain)
	}
	return allowed
}

// offer publishes tools of one risk.
func (h *house) offer(t *testing.T, risk toolv1.Risk, names ...string) {
	t.Helper()
	c := &executorv1.Catalogue{Version: "2"}
	for _, name := range names {
		c.Entries = append(c.Entries, &executorv1.Catalogue_Entry{
			Name: name, Service: "things", Digest: make([]byte, 32), Options: &toolv1.Tool{Risk: risk},
		})
	}
	value, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	auth.TakeCatalogue(h.service, bus.Entry{Key: "current", Value: value})
}

// TestListsAreNeverStale asks for one and the same list again and again: whatever
// changes shows at once, and to each caller what is his.
func TestListsAreNeverStale(t *testing.T) {
	t.Parallel()
	const readers = `
		@id("team") permit (principal in Role::"team", action, resource is Tool) when { resource.risk == "read" };
		@id("boss") permit (principal in Role::"boss", action, resource);`
	h := open(t, newStore(t), func(c *auth.Config) { c.Policies = []string{writePolicies(t, readers)} })
	h.offer(t, toolv1.Risk_RISK_READ, "a", "b", "c")
	id, anna := h.key(t, &authv1.CreateKeyRequest{Name: "anna", Owner: "anna", Roles: []string{"team"}})
	_, berta := h.key(t, &authv1.CreateKeyRequest{Name: "berta", Owner: "berta", Roles: []string{"team"}})
	_, narrow := h.key(t, &authv1.CreateKeyRequest{
		Name: "narrow", Owner: "anna", Roles: []string{"team"}, Restrictions: &authv1.KeyRestrictions{Tools: []string{"b"}},
	})
	boss := h.roleKey(t, "boss")
	const here, there = "192.0.2.7", "198.51.100.7"
	check := func(name, text, address string, want ...string) {
		t.Helper()
		if got := h.listed(t, text, address, "a", "b", "c", "none"); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	put := func(more string) {
		t.Helper()
		if _, err := h.put(t, readers+more, h.inUse(t).GetVersion()); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		check("at first", anna, here, "a", "b", "c")
		check("a key for one tool", narrow, here, "b")
		check("the boss", boss, here, "a", "b", "c")
	}
	put(`@id("no-b") @reason("no") forbid (principal, action, resource == Tool::"b");`)
	check("forbidden by other policies", anna, here, "a", "c")
	check("forbidden for the boss too", boss, here, "a", "c")
	check("forbidden and a key for one tool", narrow, here)

	put(`@id("owner") @reason("no") forbid (principal in Role::"team", action, resource == Tool::"a") when { principal.owner != "anna" };`)
	for range 2 {
		check("by the owner", anna, here, "a", "b", "c")
		check("by another owner with the same policies", berta, here, "b", "c")
	}
	put(`@id("here") @reason("no") forbid (principal, action, resource is Tool) unless { context has address && context.address.isInRange(ip("192.0.2.0/24")) };`)
	for range 2 {
		check("from here", anna, here, "a", "b", "c")
		check("from there", anna, there)
	}
	h.offer(t, toolv1.Risk_RISK_WRITE, "c", "b", "a")
	check("tools that write now, in another order", anna, here)
	check("the boss may write", boss, here, "a", "b", "c")
	h.offer(t, toolv1.Risk_RISK_READ, "c", "a")
	check("a tool that is gone", anna, here, "a", "c")

	if _, err := h.keys.RevokeKey(t.Context(), &authv1.RevokeKeyRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if got := h.listed(t, anna, here, "a", "b", "c", "none"); got != nil {
		t.Errorf("revoked: got %q, want nothing", got)
	}
	check("others with the same role", berta, here, "a", "c")
}

func TestHashesOfTools(t *testing.T) {
	t.Parallel()
	h := open(t, newStore(t), nil)
	text := h.roleKey(t, "admin")
	ask := func(hash []byte, names ...string) (*authv1.FilterToolsResponse, error) {
		return h.auth.FilterTools(t.Context(), &authv1.FilterToolsRequest{
			Credential: bearer(text), Origin: from("192.0.2.7"), Tools: names, ToolsSha256: hash,
		})
	}
	hash := hashOf("echo", "none")
	if got, want := hex.EncodeToString(hash), "d11cb424163d209647a9da179dbf93ae7a72c28a36074b52a6d3e91f34a69243"; got != want { // as made by another program
		t.Fatalf("got hash %s, want %s", got, want)
	}
	if resp, err := ask(hash); err != nil || !resp.GetToolsNeeded() || resp.GetPrincipal() == nil || len(resp.GetAllowedBits()) > 0 {
		t.Errorf("a hash nobody has told the names of: got %v, %v; want that names are needed", resp, err)
	}
	if _, err := ask(hash, "none", "echo"); status.Code(err) != codes.InvalidArgument || !fault.Is(err, authv1.Reason_REASON_TOOLS_HASH) {
		t.Errorf("names in another order: got %v, want %v", err, authv1.Reason_REASON_TOOLS_HASH)
	}
	if resp, err := ask(hash); err != nil || !resp.GetToolsNeeded() {
		t.Errorf("after names with another hash: got %v, %v; want that names are needed", resp, err)
	}
	for _, names := range [][]string{{"echo", "none"}, nil} {
		resp, err := ask(hash, names...)
		if err != nil || resp.GetToolsNeeded() || !slices.Equal(resp.GetAllowedBits(), []byte{1}) {
			t.Errorf("%q: got %v, %v; want the first bit", names, resp, err)
		}
	}
	if _, err := ask(hash[:31]); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a short hash: got %v, want %v", err, codes.InvalidArgument)
	}
	for i := range 32 { // more than are remembered
		other := fmt.Sprintf("tool_%d", i)
		if resp, err := ask(hashOf(other), other); err != nil || !slices.Equal(resp.GetAllowedBits(), []byte{0}) {
			t.Fatal(resp, err)
		}
	}
	if resp, err := ask(hash); err != nil || !resp.GetToolsNeeded() {
		t.Errorf("a list of long ago: got %v, %v; want that names are needed", resp, err)
	}
}
