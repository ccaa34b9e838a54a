package app_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/sallyport-mcp/sallyport/pkg/app"
	"github.com/sallyport-mcp/sallyport/pkg/bus/embed"
	"github.com/sallyport-mcp/sallyport/pkg/devca"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/pkg/identity"
)

// counted answers Peek with the caller's role.
type counted struct {
	quotav1.UnimplementedQuotaServiceServer
}

func (counted) Register(r grpc.ServiceRegistrar) { quotav1.RegisterQuotaServiceServer(r, counted{}) }

func (counted) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (counted) Peek(ctx context.Context, _ *quotav1.PeekRequest) (*quotav1.PeekResponse, error) {
	return &quotav1.PeekResponse{Check: &quotav1.CheckResponse{Rule: identity.Caller(ctx)}}, nil
}

var quotaRole = app.Role{
	Name:  "quota",
	Allow: map[string][]string{"sallyport.quota.v1.QuotaService": {"edge"}},
	New:   func(*app.Env) (app.Service, error) { return counted{}, nil },
}

// asking calls quota once when it runs, and sends what it was answered.
type asking struct {
	conn   app.Conn
	answer chan<- string
}

func (asking) Register(grpc.ServiceRegistrar) {}

func (a asking) Run(ctx context.Context) error {
	resp, err := quotav1.NewQuotaServiceClient(a.conn).Peek(ctx, &quotav1.PeekRequest{Subject: &quotav1.Subject{}})
	if err != nil {
		return err
	}
	a.answer <- resp.GetCheck().GetRule()
	<-ctx.Done()
	return a.conn.Close()
}

func edgeRole(answer chan<- string) app.Role {
	return app.Role{Name: "edge", New: func(env *app.Env) (app.Service, error) {
		conn, err := env.Conn("quota")
		return asking{conn, answer}, err
	}}
}

func load(t *testing.T, set ...string) app.Config {
	t.Helper()
	cfg, err := app.Load("", append([]string{"state_dir=" + t.TempDir(), "bus.sync=2m"}, set...)...)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// start runs roles until the test ends and returns what is told when ready.
func start(t *testing.T, cfg app.Config, roles ...app.Role) app.Info {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan app.Info, 1), make(chan error, 1)
	go func() {
		done <- app.Run(ctx, app.Options{
			Config: cfg, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), StartBus: embed.Start,
			Ready: func(i app.Info) { ready <- i },
		}, roles...)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	select {
	case i := <-ready:
		return i
	case err := <-done:
		done <- nil
		t.Fatalf("Run ended: %v", err)
		return app.Info{}
	}
}

func TestRolesCallEachOtherInOneProcess(t *testing.T) {
	t.Parallel()
	answer := make(chan string, 1)
	start(t, load(t), quotaRole, edgeRole(answer))
	if got := <-answer; got != "edge" {
		t.Errorf("quota was called by %q, want edge", got)
	}
}

func TestRolesCallEachOtherInTwoProcesses(t *testing.T) {
	t.Parallel()
	certs := t.TempDir()
	if err := devca.Ensure(certs, "edge", "quota"); err != nil {
		t.Fatal(err)
	}
	cfg := load(t)
	cfg.TLS = devca.Files(certs)
	cfg.Listen = map[string]string{"quota": "127.0.0.1:0"}
	server := start(t, cfg, quotaRole)

	cfg = load(t)
	cfg.TLS = devca.Files(certs)
	cfg.Peers = map[string]string{"quota": server.Addresses["quota"]}
	answer := make(chan string, 1)
	start(t, cfg, edgeRole(answer))
	if got := <-answer; got != "edge" {
		t.Errorf("quota was called by %q, want edge", got)
	}
}

func TestAdminPortTellsWhatKeepsTheProcessFromBeingReady(t *testing.T) {
	t.Parallel()
	broken := make(chan error, 1)
	role := quotaRole
	role.New = func(env *app.Env) (app.Service, error) {
		env.Ready("database", func(context.Context) error {
			select {
			case err := <-broken:
				broken <- err
				return err
			default:
				return nil
			}
		})
		return counted{}, nil
	}
	info := start(t, load(t), role)
	get := func(path string) (int, string) {
		resp, err := http.Get(info.AdminURL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if code, _ := get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: got %d", code)
	}
	if _, body := get("/metrics"); !strings.Contains(body, "go_goroutines") {
		t.Error("/metrics has no go_goroutines")
	}
	broken <- errors.New("gone")
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "[-] quota/database: gone") {
		t.Errorf("/readyz of a broken process: got %d %q", code, body)
	}
	if code, _ := get("/livez"); code != http.StatusOK {
		t.Errorf("/livez: got %d; a process that is not ready is alive", code)
	}
}

func TestPortThatIsTakenIsAnErrorThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	err = app.Run(t.Context(), app.Options{Config: load(t, "admin="+lis.Addr().String()), StartBus: embed.Start}, quotaRole)
	if err == nil || !strings.Contains(err.Error(), "choose another address") {
		t.Errorf("got %v", err)
	}
}

func TestCheckLeavesNothingAndTakesNoAddress(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	dir := filepath.Join(t.TempDir(), "state")
	cfg := load(t, "admin="+lis.Addr().String(), "bus.listen="+lis.Addr().String(), "state_dir="+dir)
	role := app.Role{Name: "edge", New: func(env *app.Env) (app.Service, error) {
		own, err := env.Listen(lis.Addr().String())
		if err != nil {
			return nil, err
		}
		return counted{}, own.Close()
	}}
	if err := app.Run(t.Context(), app.Options{Config: cfg, StartBus: embed.Start, CheckOnly: true}, quotaRole, role); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state folder was made (%v)", err)
	}
}

func TestServiceThatFailsEndsTheProcess(t *testing.T) {
	t.Parallel()
	want := errors.New("broken")
	role := app.Role{Name: "edge", New: func(*app.Env) (app.Service, error) { return failing{want}, nil }}
	if err := app.Run(t.Context(), app.Options{Config: load(t), StartBus: embed.Start}, quotaRole, role); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

type failing struct{ err error }

func (failing) Register(grpc.ServiceRegistrar)  {}
func (f failing) Run(ctx context.Context) error { return f.err }

func TestThinBinarySaysThatItHasNoServer(t *testing.T) {
	t.Parallel()
	err := app.Run(t.Context(), app.Options{Config: load(t)}, quotaRole)
	if err == nil || !strings.Contains(err.Error(), "set bus.embedded: false") {
		t.Errorf("got %v", err)
	}
}

func TestConfigurationIsReadStrictly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		set        []string
		want       string // in the error; "" for none
	}{
		{"an empty file is the defaults", "", nil, ""},
		{"an unknown key is an error with its line", "drain: 1s\nwidow: 1\n", nil, "line 2: field widow not found"},
		{"a wrong type is an error with its line", "drain: often\n", nil, "line 1"},
		{"every mistake of the common part is told", "drain: 1h\nbus: {embedded: false}\n", nil, "drain: 1h0m0s is not between 0s and 5m\nbus.url"},
		{"peers without an identity are refused", "peers: {auth: 'x:1'}\n", nil, "tls: missing"},
		{"an override reaches a key that is not in the file", "", []string{"roles.edge.listen=127.0.0.1:0"}, ""},
		{"an override is as strict as the file", "", []string{"widow=1"}, "field widow not found"},
		{"an override without a value is a mistake", "", []string{"widow"}, "want path.to.key=value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := app.Load(file, tt.set...)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.want != "":
				for part := range strings.SplitSeq(tt.want, "\n") {
					if err == nil || !strings.Contains(err.Error(), part) {
						t.Errorf("got %v, want %q in it", err, part)
					}
				}
			}
		})
	}
}

func TestMistakeInASectionHasTheLineOfTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("drain: 1s\nroles:\n  # a comment\n  quota:\n\n    widow: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := app.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Section("quota", &section{}); err == nil || !strings.Contains(err.Error(), "roles.quota") || !strings.Contains(err.Error(), "line 6: field widow") {
		t.Errorf("got %v", err)
	}
}

type section struct {
	Window int `yaml:"window"`
}

func (*section) Validate() error { return nil }

func TestCommandAnswersWithoutStarting(t *testing.T) {
	t.Parallel()
	var out, errOut bytes.Buffer
	if err := app.Command(t.Context(), []string{"-version"}, &out, &errOut, nil, quotaRole); err != nil || out.Len() == 0 {
		t.Errorf("-version: %q, %v", out.String(), err)
	}
	for _, args := range [][]string{{"-nonsense"}, {"extra"}, {"-config", "/does/not/exist"}} {
		if err := app.Command(t.Context(), args, &out, &errOut, nil, quotaRole); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestARoleKnowsWhereItCanBeReached(t *testing.T) {
	t.Parallel()
	certs := t.TempDir()
	if err := devca.Ensure(certs, "quota"); err != nil {
		t.Fatal(err)
	}
	server := start(t, load(t, "bus.listen=127.0.0.1:0"), quotaRole)
	reachable := func(t *testing.T, set ...string) (at string, listens string) {
		t.Helper()
		tls := devca.Files(certs)
		cfg := load(t, append([]string{"tls.ca=" + tls.CA, "tls.cert=" + tls.Cert, "tls.key=" + tls.Key}, set...)...)
		told := make(chan string, 1)
		info := start(t, cfg, app.Role{Name: "quota", Allow: quotaRole.Allow, New: func(env *app.Env) (app.Service, error) {
			told <- env.Reachable()
			return counted{}, nil
		}})
		return <-told, info.Addresses["quota"]
	}
	dials := []string{"bus.embedded=false", "bus.url=" + server.NATSURL}
	for name, test := range map[string]struct {
		set  []string
		want func(listens string) string
	}{
		"what is advertised":       {[]string{"listen.quota=127.0.0.1:0", "advertise.quota=dns:///here:9000"}, func(string) string { return "dns:///here:9000" }},
		"one address":              {[]string{"listen.quota=127.0.0.1:0"}, func(listens string) string { return listens }},
		"all addresses":            {append([]string{"listen.quota=0.0.0.0:0"}, dials...), func(listens string) string { return strings.Replace(listens, "[::]", "127.0.0.1", 1) }},
		"all, with its own server": {[]string{"listen.quota=0.0.0.0:0"}, func(string) string { return "" }},
		"none":                     {nil, func(string) string { return "" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, listens := reachable(t, test.set...)
			if want := test.want(listens); at != want {
				t.Errorf("got %q, want %q", at, want)
			}
		})
	}
}
