package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/sallyport-mcp/sallyport/pkg/devca"
)

// bootstrapCommand makes what a cluster shares and nobody should invent by hand.
// What is there is kept, so that it can run before every start.
func bootstrapCommand() *cobra.Command {
	var database, host string
	cmd := &cobra.Command{
		Use:   "bootstrap DIR",
		Short: "Make certificates and secrets for a cluster that has none",
		Long: `Makes, in DIR, unless they are there:

  ca.crt, ca.key                   an authority, for development only
  <role>.crt, <role>.key           identities for mTLS
  nats.password, nats-auth.conf    the login at NATS, for us and for the server
  grant.key, pepper, edge.key      keys of auth and executor, of auth, and of edges

and with --database, in that folder, passwords and DSNs for the demo tools.
Production has its own authority and secret store; the files are of the same shape.`,
		Example: "  sallyport bootstrap /identity --database /db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := bootstrap(args[0]); err != nil {
				return failed(err)
			}
			if database != "" {
				if err := bootstrapDatabase(database, host); err != nil {
					return failed(err)
				}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "certificates and secrets are in %s\n", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&database, "database", "", "`folder` for the demo database's passwords")
	cmd.Flags().StringVar(&host, "database-host", "postgres:5432", "`host:port` of the demo database")
	return cmd
}

// certCommand makes an identity for a role that is not one of ours.
func certCommand(o *operator) *cobra.Command {
	return &cobra.Command{
		Use:   "cert ROLE",
		Short: "Make a development certificate for one more role, such as a tool service of yours",
		Example: `  sallyport cert weather
  weatherd -config .sallyport/run/config.yaml -set listen.weather=127.0.0.1:9100`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !roleName.MatchString(args[0]) {
				return usage("%q is not the name of a role: lower-case letters, digits and dashes", args[0])
			}
			dir, err := o.stateDir()
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(certsDir(dir), "ca.key")); err != nil {
				return failed(fmt.Errorf("no development authority in %s; 'sallyport dev' makes one", certsDir(dir)))
			}
			if err := devca.Ensure(certsDir(dir), args[0]); err != nil {
				return failed(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", filepath.Join(certsDir(dir), args[0]+".crt"))
			return nil
		},
	}
}

var roleName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

func bootstrap(dir string) error {
	if err := devca.Ensure(dir, roleNames()...); err != nil {
		return err
	}
	password, err := secretText(filepath.Join(dir, "nats.password"), 0o600)
	if err != nil {
		return err
	}
	auth := fmt.Sprintf("authorization {\n  user: sallyport\n  password: %q\n}\n", password)
	if err := os.WriteFile(filepath.Join(dir, "nats-auth.conf"), []byte(auth), 0o600); err != nil {
		return err
	}
	for _, name := range []string{"grant.key", "pepper", "edge.key"} {
		if err := secretBytes(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// bootstrapDatabase makes logins for the demo database. Its folder is mounted
// only where they are needed, under users we do not choose: hence the modes.
func bootstrapDatabase(dir, host string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := secretText(filepath.Join(dir, "postgres.password"), 0o644); err != nil {
		return err
	}
	for tool, role := range map[string]string{"sqlquery": "reader", "customers": "customers"} {
		password, err := secretText(filepath.Join(dir, role+".password"), 0o644)
		if err != nil {
			return err
		}
		dsn := fmt.Sprintf("postgres://sallyport_%s:%s@%s/demo?sslmode=disable\n", role, password, host)
		if err := os.WriteFile(filepath.Join(dir, tool+".dsn"), []byte(dsn), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// secretText returns a random text that is kept in a file.
func secretText(file string, mode os.FileMode) (string, error) {
	b, err := os.ReadFile(file)
	if err == nil && len(b) > 0 {
		return string(b), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	text := rand.Text()
	return text, os.WriteFile(file, []byte(text), mode)
}

// secretBytes makes a file of 32 random bytes.
func secretBytes(file string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return os.WriteFile(file, b, 0o600)
}
