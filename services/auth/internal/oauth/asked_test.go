package oauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth"
)

// asking judges a token at a time, and how many questions that took.
type asking struct {
	desk *desk
	v    *oauth.Verifier
}

func (a asking) at(t *testing.T, token string, now time.Time, want auditv1.Reason, questions int) *oauth.Verdict {
	t.Helper()
	before := a.desk.questions()
	got, err := a.v.Verify(t.Context(), token, now, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := a.desk.questions() - before; got.Reason != want || (got.Identity != nil) != (want == 0) || n != questions {
		t.Errorf("got %v (%s) with %d questions, want %v with %d", got.Reason, got.Why, n, want, questions)
	}
	return got
}

func TestAnswersAreRemembered(t *testing.T) {
	t.Parallel()
	const (
		good    = auditv1.Reason_REASON_UNSPECIFIED
		unknown = auditv1.Reason_REASON_CREDENTIAL_UNKNOWN
		expired = auditv1.Reason_REASON_CREDENTIAL_EXPIRED
	)
	now := time.Now()
	d := newDesk(t, says(active(now, nil)))
	a := asking{d, d.verifier(t, func(c *oauth.Config) { c.Issuers[0].Introspection.Cache = 20 * time.Second })}
	inactive := says(object{"active": false})

	v := a.at(t, "one", now, good, 1)
	a.at(t, "one", now.Add(19*time.Second), good, 0)
	if last := now.Add(20 * time.Second); !v.Current(last.Add(-1)) || v.Current(last) || v.Identity.Expires.After(last) {
		t.Errorf("an answer is good until %v, want %v", v.Identity.Expires, last)
	}
	a.at(t, "one", now.Add(20*time.Second), good, 1)
	d.from(inactive) // from here on it is revoked
	a.at(t, "one", now.Add(39*time.Second), good, 0)
	a.at(t, "one", now.Add(40*time.Second), expired, 1)
	a.at(t, "one", now.Add(41*time.Second), expired, 0)
	a.at(t, "one", now.Add(42*time.Second), expired, 1)

	a.at(t, "two", now, unknown, 1)
	d.from(says(active(now, nil)))
	a.at(t, "two", now.Add(1900*time.Millisecond), unknown, 0)
	a.at(t, "two", now.Add(2*time.Second), good, 1) // it was new, and the desk had not heard of it

	// Never longer than the token, with the clocks' difference.
	d.from(says(active(now, object{"exp": now.Add(5 * time.Second).Unix()})))
	v = a.at(t, "three", now, good, 1)
	if end := time.Unix(now.Add(5*time.Second).Unix(), 0).Add(30 * time.Second); v.Identity.Expires.After(end) {
		t.Errorf("good until %v, and the token until %v", v.Identity.Expires, end)
	}
	late := now.Add(30 * time.Second)
	if v = a.at(t, "three", late, good, 1); v.Current(late.Add(6 * time.Second)) {
		t.Error("an answer is good for longer than the token")
	}
}

// An issuer that is away is refused for; what it has said just before is good.
func TestIssuerGoesAway(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newDesk(t, says(active(now, nil)))
	c := oauth.DefaultConfig()
	c.Resource, c.Issuers = resource, []oauth.Issuer{d.issuer()}
	var log bytes.Buffer
	v, err := oauth.New(c, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	a := asking{d, v}
	a.at(t, "one", now, auditv1.Reason_REASON_UNSPECIFIED, 1)
	d.from(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	a.at(t, "one", now.Add(9*time.Second), auditv1.Reason_REASON_UNSPECIFIED, 0)
	for _, token := range []string{"one", "two"} {
		if got, err := a.v.Verify(t.Context(), token, now.Add(10*time.Second), nil); !errors.Is(err, oauth.ErrNotReady) {
			t.Errorf("%s: got %+v, %v", token, got, err)
		}
	}
	d.from(says(active(now, nil)))
	a.at(t, "one", now.Add(10*time.Second), auditv1.Reason_REASON_UNSPECIFIED, 1)
	a.at(t, "two", now.Add(10*time.Second), auditv1.Reason_REASON_UNSPECIFIED, 1)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "/introspect: 503") || !strings.Contains(lines[1], "level=INFO") {
		t.Errorf("operators read %q, want when it began and when it ended", lines)
	}
}

// gate holds questions until they are let through.
type gate struct {
	came chan string
	open chan struct{}
}

func newGate(d *desk, now time.Time) gate {
	g := gate{make(chan string, 1000), make(chan struct{})}
	d.from(func(w http.ResponseWriter, r *http.Request) {
		g.came <- r.PostForm.Get("token")
		select {
		case <-g.open:
			says(active(now, nil))(w, r)
		case <-r.Context().Done():
		}
	})
	return g
}

// However many show a token at once, its issuer is asked once; and it does not matter
// that the first of them goes away.
func TestOneQuestionForAToken(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newDesk(t, nil)
	g := newGate(d, now)
	v := d.verifier(t, nil)
	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	verify := func(ctx context.Context) {
		wg.Go(func() {
			if got, err := v.Verify(ctx, "one", now, nil); ctx.Err() == nil && (err != nil || got.Identity == nil) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	verify(ctx)
	<-g.came
	leave()
	for range 50 {
		verify(t.Context())
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(impatient, "one", now, nil); !errors.Is(err, oauth.ErrNotReady) {
		t.Errorf("who does not wait: got %v", err)
	}
	close(g.open)
	wg.Wait()
	if n := d.questions(); n != 1 {
		t.Errorf("%d questions, want 1", n)
	}
}

// Tokens that nobody knows make no more than so many questions at once, and those
// that have been good do not wait for them.
func TestQuestionsAreBounded(t *testing.T) {
	t.Parallel()
	const most = 16
	now := time.Now()
	d := newDesk(t, says(active(now, nil)))
	v := d.verifier(t, nil)
	asking{d, v}.at(t, "regular", now, auditv1.Reason_REASON_UNSPECIFIED, 1)
	g := newGate(d, now)
	later := now.Add(time.Minute)
	var wg sync.WaitGroup
	verify := func(token string) {
		wg.Go(func() {
			if got, err := v.Verify(t.Context(), token, later, nil); err != nil || got.Identity == nil {
				t.Errorf("%s: got %+v, %v", token, got, err)
			}
		})
	}
	for n := range 3 * most {
		verify(fmt.Sprint("stranger", n))
	}
	for range most {
		<-g.came
	}
	verify("regular")
	if token := <-g.came; token != "regular" {
		t.Errorf("the issuer was asked about %s as well, want one that has been good", token)
	}
	close(g.open)
	wg.Wait()
}

// Who has shown too many bad tokens makes no more questions; a token that has been
// good is asked about for him too.
func TestFlood(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newDesk(t, says(active(now, nil)))
	v := d.verifier(t, nil)
	asking{d, v}.at(t, "regular", now, auditv1.Reason_REASON_UNSPECIFIED, 1)
	flooded := func() bool { return true }
	later := now.Add(time.Minute)
	if got, err := v.Verify(t.Context(), "stranger", later, flooded); err != nil || got.Reason != auditv1.Reason_REASON_TOO_MANY_FAILURES {
		t.Errorf("got %+v, %v", got, err)
	}
	if n := d.questions(); n != 1 {
		t.Errorf("%d questions, want none about the stranger", n-1)
	}
	if got, err := v.Verify(t.Context(), "regular", later, flooded); err != nil || got.Identity == nil {
		t.Errorf("one that has been good: got %+v, %v", got, err)
	}
	// Nothing is remembered of what was not asked.
	asking{d, v}.at(t, "stranger", later, auditv1.Reason_REASON_UNSPECIFIED, 1)
	if got, err := v.Verify(t.Context(), "stranger", later, flooded); err != nil || got.Identity == nil {
		t.Errorf("one that others know is good: got %+v, %v", got, err)
	}
}

// Those who wait for a place turn away when they are found to flood meanwhile, and
// somebody else who shows the same token is answered.
func TestFloodThatBeginsWhileWaiting(t *testing.T) {
	t.Parallel()
	const most = 16
	now := time.Now()
	d := newDesk(t, nil)
	g := newGate(d, now)
	v := d.verifier(t, nil)
	var wg sync.WaitGroup
	for n := range most { // all places are taken
		wg.Go(func() { _, _ = v.Verify(t.Context(), fmt.Sprint("stranger", n), now, nil) })
	}
	for range most {
		<-g.came
	}
	looked := make(chan struct{}, 2)
	times := 0
	flooded := func() bool { // by the one question that there is, so one after the other
		times++
		looked <- struct{}{}
		return times > 1
	}
	wg.Go(func() {
		if got, err := v.Verify(t.Context(), "wanted", now, flooded); err != nil || got.Reason != auditv1.Reason_REASON_TOO_MANY_FAILURES {
			t.Errorf("the flood: got %+v, %v", got, err)
		}
	})
	<-looked
	wg.Go(func() {
		if got, err := v.Verify(t.Context(), "wanted", now, nil); err != nil || got.Identity == nil {
			t.Errorf("somebody else: got %+v, %v", got, err)
		}
	})
	close(g.open)
	wg.Wait()
	if n := d.questions(); n != most+1 {
		t.Errorf("%d questions, want %d", n, most+1)
	}
}

// The memory has a bound. Made-up tokens do not push out good ones.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := newDesk(t, says(active(now, nil)))
	a := asking{d, d.verifier(t, nil)}
	a.at(t, "regular", now, auditv1.Reason_REASON_UNSPECIFIED, 1)
	d.from(says(object{"active": false}))
	const many = 10_100
	for n := range many {
		if _, err := a.v.Verify(t.Context(), fmt.Sprint("stranger", n), now, nil); err != nil {
			t.Fatal(err)
		}
	}
	a.at(t, "regular", now, auditv1.Reason_REASON_UNSPECIFIED, 0)
	before := d.questions()
	for n := range many {
		if _, err := a.v.Verify(t.Context(), fmt.Sprint("stranger", n), now, nil); err != nil {
			t.Fatal(err)
		}
	}
	if again := d.questions() - before; again < 100 || again > many/2 {
		t.Errorf("of %d tokens, %d were asked about again, want those beyond 10000 and few more", many, again)
	}
}
