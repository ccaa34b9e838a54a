package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/fault"
	authv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/auth/v1"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/instance"
	"github.com/sallyport-mcp/sallyport/services/sallyport/internal/mcp"
)

// demoRoles are the roles that get a demo key, which has the role's name.
var demoRoles = []string{"admin", "analyst", "intern"}

// demoKey is a demo key as it is remembered between runs.
type demoKey struct {
	ID     string `json:"id"`
	Secret string `json:"key"`
}

// ensureDemoKeys returns a live key for each demo role: those of the last run, or
// new ones where they were revoked, have expired or never were.
func ensureDemoKeys(ctx context.Context, dir string, conn grpc.ClientConnInterface) (map[string]string, error) {
	file := filepath.Join(dir, "secrets", "demo-keys.json")
	known := make(map[string]demoKey)
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(b, &known); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	client := authv1.NewKeyServiceClient(conn)
	live := make(map[string]*authv1.Key)
	for token := ""; ; {
		resp, err := client.ListKeys(ctx, &authv1.ListKeysRequest{PageToken: token})
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		for _, k := range resp.GetKeys() {
			if k.GetState() == authv1.KeyState_KEY_STATE_ACTIVE || k.GetState() == authv1.KeyState_KEY_STATE_ROTATING {
				live[k.GetId()] = k
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	out, changed := make(map[string]string), false
	for _, role := range demoRoles {
		if k := known[role]; live[k.ID] == nil {
			if known[role], err = createDemoKey(ctx, client, role); err != nil {
				return nil, fmt.Errorf("make the demo key %s: %w", role, err)
			}
			changed = true
		}
		out[role] = known[role].Secret
	}
	if !changed {
		return out, nil
	}
	if b, err = json.Marshal(known); err != nil {
		return nil, err
	}
	return out, writeSecret(file, b)
}

func createDemoKey(ctx context.Context, client authv1.KeyServiceClient, role string) (demoKey, error) {
	req := &authv1.CreateKeyRequest{Name: "demo " + role, Owner: "sallyport dev", Roles: []string{role}}
	resp, err := client.CreateKey(ctx, req)
	if fault.Is(err, authv1.Reason_REASON_NAME_TAKEN) { // the file with its secret was lost
		req.Name += " " + time.Now().UTC().Format("20060102-150405")
		resp, err = client.CreateKey(ctx, req)
	}
	if err != nil {
		return demoKey{}, err
	}
	return demoKey{ID: resp.GetKey().GetId(), Secret: resp.GetSecret()}, nil
}

// demoTools is how many tools the demo services have together.
const demoTools = 6

// awaitTools waits until every edge lists the demo tools: then the last link,
// from the tool's announcement to the policies, is there.
func awaitTools(ctx context.Context, i instance.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, url := range i.MCPURLs {
		client := mcp.Client{URL: url, Key: i.Keys["admin"], Name: app.Version()}
		for {
			tools, err := client.Tools(ctx)
			if err == nil && len(tools) >= demoTools {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("the tools did not come up at %s: %d of %d are listed (%v)", url, len(tools), demoTools, err)
			}
		}
	}
	return nil
}

// ensurePassword makes a random password where there is none.
func ensurePassword(file string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeSecret(file, []byte(rand.Text()))
}

func writeSecret(file string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// natsURL adds to the server's address the login that other programs need. It is
// shown only to the person at this machine.
func natsURL(cfg app.Config, address string) (string, error) {
	if cfg.Bus.User == "" || address == "" {
		return address, nil
	}
	password, err := os.ReadFile(cfg.Bus.PasswordFile)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	u.User = url.UserPassword(cfg.Bus.User, string(password))
	return u.String(), nil
}
