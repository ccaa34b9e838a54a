//go:build cluster

package quota_test

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	"github.com/sallyport-mcp/sallyport/pkg/freeport"
)

// natsCluster starts three servers that are one cluster, and returns their URLs.
func natsCluster(t *testing.T) (urls string, servers []*server.Server) {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		address := freeport.Address(t)
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, n)
		routes = append(routes, &url.URL{Scheme: "nats", Host: address})
	}
	for i := range 3 {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
			JetStream: true, StoreDir: t.TempDir(), Routes: routes,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i]},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		servers = append(servers, s)
	}
	for i, s := range servers {
		if !s.ReadyForConnections(20 * time.Second) {
			t.Fatal("a server does not start")
		}
		if i > 0 {
			urls += ","
		}
		urls += s.ClientURL()
	}
	await(t, "a leader", func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() {
				return s.JetStreamClusterPeers() != nil && len(s.JetStreamClusterPeers()) == 3
			}
		}
		return false
	})
	return urls, servers
}

func TestMembersOnACluster(t *testing.T) {
	t.Parallel()
	urls, _ := natsCluster(t)
	countAsOne(t, bus.Config{URL: urls, Sync: "always", Replicas: 3})
}

func TestAServerOfTheBusDies(t *testing.T) {
	t.Parallel()
	urls, servers := natsCluster(t)
	on := bus.Config{URL: urls, Sync: "always", Replicas: 3}
	members := []*member{startOn(t, on, clusterRules), startOn(t, on, clusterRules)}
	await(t, "members to serve", func() bool {
		return members[0].svc.Ready(t.Context()) == nil && members[1].svc.Ready(t.Context()) == nil
	})
	allowed, gap, last := 0, time.Duration(0), time.Now()
	spend := func(i int) {
		// One that is never refused tells whether anything is decided.
		if _, err := members[i%2].Check(t.Context(), check("action", "tools/call", "ip", fmt.Sprintf("2001:db8:%x::1", i%0xffff), "user", "ann")); err == nil {
			gap, last = max(gap, time.Since(last)), time.Now()
		}
		res, _ := members[i%2].Check(t.Context(), check("action", "tools/call", "ip", "192.0.2.1", "user", "ann"))
		if res.GetAllowed() {
			allowed++
		}
	}
	for i := range 5 {
		spend(i)
	}
	for _, s := range servers { // the one that leases are written to
		if s.JetStreamIsStreamLeader("$G", "KV_"+bus.QuotaMembers.Name) {
			s.Shutdown()
		}
	}
	died := time.Now()
	await(t, "members to serve for a while", func() bool {
		spend(int(time.Since(died)))
		return time.Since(died) > 5*time.Second && members[0].svc.Ready(t.Context()) == nil && members[1].svc.Ready(t.Context()) == nil
	})
	t.Logf("nothing was decided for up to %v", gap)
	if allowed > 10 || allowed < 5 {
		t.Errorf("admitted %d of 10", allowed)
	}
}
