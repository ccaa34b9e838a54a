package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"

	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

// principal makes a principal of claims. The error names what is wrong and no
// value.
func (i *issuer) principal(c jose.Claims, token string) (*authv1.Principal, error) {
	read := func(path string) string {
		object, name := c.At(path)
		text, err := object.Text(name)
		if err != nil {
			return ""
		}
		return text
	}
	subject, client := read(i.claims.Subject), read(i.claims.Client)
	if client == "" {
		client = read("azp")
	}
	id := "user:" + i.Issuer.Issuer + "/" + subject
	if subject == "" || subject == client { // nobody but the client itself
		id = "client:" + i.Issuer.Issuer + "/" + client
		subject = client
	}
	if subject == "" {
		return nil, errors.New("without subject")
	}
	if len(id) > 256 || !printable(id) {
		return nil, errors.New("with a subject that is too long or does not print")
	}
	sum := sha256.Sum256([]byte(token))
	p := &authv1.Principal{
		Id: id, Owner: clip(read(i.claims.Owner)), Name: clip(read(i.claims.Name)),
		CredentialId: "t_" + base64.RawURLEncoding.EncodeToString(sum[:12]), Tenant: i.DefaultTenant,
	}
	if i.claims.Tenant != "" {
		if tenant := read(i.claims.Tenant); tenant != "" {
			p.Tenant = tenant
		}
	}
	if p.GetTenant() == "" {
		p.Tenant = "default"
	}
	if !tenantPattern.MatchString(p.GetTenant()) {
		return nil, errors.New("with a tenant that is none")
	}
	roles, err := i.roles(c)
	p.Roles = roles
	return p, err
}

// roles reads and maps the roles. Values that are no roles count for nothing.
func (i *issuer) roles(c jose.Claims) ([]string, error) {
	all := make(map[string]bool)
	for _, r := range i.DefaultRoles {
		all[r] = true
	}
	object, name := c.At(i.claims.Roles)
	values, err := object.Texts(name)
	if err != nil {
		return nil, errors.New("with roles that are no list of strings")
	}
	if len(values) == 1 {
		values = strings.Fields(values[0])
	}
	for _, value := range values {
		if len(i.RoleMap) == 0 {
			if rolePattern.MatchString(value) {
				all[value] = true
			}
			continue
		}
		for _, r := range i.RoleMap[value] {
			all[r] = true
		}
	}
	const most = 32
	if len(all) > most {
		return nil, errors.New("with too many roles")
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// canonical is a resource as it is compared: scheme and host in lower case, no
// slash at the end (RFC 3986, 6.2.2.1; MCP, "Resource Parameter Implementation").
func canonical(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return text
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	return strings.TrimSuffix(u.String(), "/")
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r == 0x7f || r == 0xfffd })
}

// clip cuts a text for people to what the contract has room for.
func clip(s string) string {
	const most = 128
	r := []rune(strings.ToValidUTF8(s, ""))
	return string(r[:min(len(r), most)])
}
