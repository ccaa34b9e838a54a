package edge_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the answers that are got into testdata")

// TestWire replays testdata/*.txtar. Each file tells in its comment what it is
// about, and has pairs of sections: a request as a client writes it (without
// Host and Content-Length unless they matter), and the answer it has to get.
// "{STATE}" in a request is the requestState of the last answer that had one.
func TestWire(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no wire tests: %v", err)
	}
	w := newWorld(t).watched(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			state, session := "", "" // what was given out last, for {STATE} and {session}
			for i := 0; i+1 < len(archive.Files); i += 2 {
				request, answer := archive.Files[i], &archive.Files[i+1]
				got := replay(t, w.edge.Addr(), strings.NewReplacer("{STATE}", state, "{session}", session).Replace(string(request.Data)))
				if m := requestState.FindStringSubmatch(got); m != nil {
					state = m[1]
					got = strings.ReplaceAll(got, state, "{STATE}")
				}
				if minted := sessionID.FindString(got); minted != "" {
					session, got = minted, strings.ReplaceAll(got, minted, "{session}")
				}
				if *update {
					answer.Data = []byte(got)
					continue
				}
				if diff := cmp.Diff(string(answer.Data), got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", request.Name, diff)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// replay sends a request over a connection of its own and returns the answer in
// the form of the files.
func replay(t *testing.T, addr, request string) string {
	t.Helper()
	head, body, _ := strings.Cut(request, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	lines := strings.Split(strings.TrimSuffix(head, "\n"), "\n")
	has := func(name string) bool {
		return slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(strings.ToLower(l), name+":") })
	}
	if !has("host") {
		lines = append(lines, "Host: "+addr)
	}
	if !has("content-length") && !has("transfer-encoding") && strings.HasPrefix(lines[0], "POST") {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return readable(resp, data)
}

var (
	requestState = regexp.MustCompile(`"requestState":"([A-Za-z0-9_-]+)"`)
	decisionID   = regexp.MustCompile(`d_[0-9A-HJKMNP-TV-Z]{26}`)
	sessionID    = regexp.MustCompile(`s1\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{22}`)
)

func readable(resp *http.Response, body []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", resp.Proto, resp.Status)
	if resp.Close {
		b.WriteString("Connection: close\n")
	}
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		if name == "Date" || name == "Content-Length" {
			continue
		}
		for _, v := range resp.Header[name] {
			fmt.Fprintf(&b, "%s: %s\n", name, v)
		}
	}
	b.WriteByte('\n')
	if b.Write(body); len(body) > 0 {
		b.WriteByte('\n')
	}
	return decisionID.ReplaceAllString(b.String(), "d_ID")
}
