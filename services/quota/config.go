package quota

import (
	"errors"
	"log/slog"
	"reflect"
	"time"

	"github.com/sallyport-mcp/sallyport/services/quota/internal/cluster"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/fast"
)

// Config is the "quota" section of the configuration file.
type Config struct {
	// Rules say who may spend how much. A check must satisfy all that match it.
	Rules []Rule `yaml:"rules"`
	// RulesFiles are files, or folders of *.yaml files, that hold rules, and
	// attributes, instead of Rules. They are read again every second; what has
	// changed holds within about two, whole or not at all: while there is a mistake
	// in any of them the rules before stay in use, and ExplainRules, a metric and
	// the log say what is wrong and where. A process does not start with a mistake.
	//
	// Counts are kept. A limit is the same as before if its rule has the same id, key
	// and, for an override, when: what was spent counts against the new limit, over
	// the new window. A rule that is gone is not asked any more; if it comes back
	// within its window, so do its counts.
	RulesFiles Strings `yaml:"rules_files"`
	// Attributes names those that rules may use besides the known ones. Any other
	// name in a rule is taken for a mistake.
	Attributes []string `yaml:"attributes"`
	// MaxKeys bounds the counters in memory, and the permits: 60 to 120 bytes
	// each, up to 600 for a caller that uses up a limit of 128. When all are
	// needed, new callers are refused and old ones keep their counts.
	MaxKeys int `yaml:"max_keys"`
	// MaxReplays bounds the answers kept for idempotency keys, about 1 KiB each.
	// When it is used up the oldest is forgotten before its minute is over; its
	// repetition is then charged again, but never passes for free.
	MaxReplays int `yaml:"max_replays"`
	// MaxBookings bounds the reservations that are remembered: those that are open,
	// and for a day those that are settled, 100 to 200 bytes each. Calls that a
	// durable quota counts are among them for ten seconds, in a cluster and with an
	// idempotency key a minute longer each. When it is used up, new ones are refused:
	// a million are enough for eleven reservations a second, all day.
	MaxBookings int `yaml:"max_bookings"`
	// Cluster makes several nodes count as one. Each then has copies in memory of
	// about as many counters as it has of its own.
	Cluster cluster.Config `yaml:"cluster"`
	// Fast is about rules with mode fast. Nodes may have as many counters for them as
	// MaxKeys besides, 200 bytes each and 100 more for each further node.
	Fast fast.Config `yaml:"fast"`
}

// Rule limits whoever it matches. Those it cannot tell apart share its counts.
type Rule struct {
	// ID names the rule in answers, headers and metrics.
	ID string `yaml:"id"`
	// Match holds patterns by attribute; all attributes must meet theirs. "*"
	// stands for any text, a leading "!" for all but this. An absent attribute is
	// empty and meets only patterns with "!". The attribute role is a list, of
	// which one must meet the pattern. Without patterns the rule matches always.
	Match map[string]Strings `yaml:"match"`
	// Key names the attributes to count by. "ip" counts IPv6 by /64; "ip/56" by
	// another prefix. An absent attribute counts as the empty value, which all who
	// lack it share. No key counts everybody together.
	Key []string `yaml:"key"`
	// Limit holds rates such as "10/minute" or "5 per 15 minutes;100/day".
	Limit Strings `yaml:"limit"`
	// Algorithm is how to count.
	//
	// sliding (the default) never admits more than the limit in any window,
	// wherever it begins. Limits of up to 128 are counted spend by spend; larger ones
	// in tenths of a window, of which the one partly over counts whole, so they refill
	// up to a tenth of a window late.
	//
	// gcra refills smoothly: after a burst it admits the limit evenly over the window,
	// so up to burst and limit together in one window.
	//
	// fixed counts in windows one after the other, hence admits up to twice the limit
	// around the end of one. See Windows.
	Algorithm string `yaml:"algorithm"`
	// Windows says where those of fixed begin: spend (the default; with the first
	// spend after the window before) or clock (with each second, minute, hour or day
	// of UTC; windows must divide a day). If the clock is set, windows that have begun
	// end when they would have; the next follow the clock as it is then.
	Windows string `yaml:"windows"`
	// Penalty is none (the default; what is refused is not counted, so trying again
	// costs nothing) or extend: what this rule refuses counts as if it had been spent,
	// up to the limit, so who keeps trying keeps being refused, and retry_after is how
	// long to be quiet. A cost greater than the limit is not counted. Not for windows
	// of the clock, nor for concurrency.
	Penalty string `yaml:"penalty"`
	// Burst is what gcra admits at once; the limit when zero.
	Burst uint32 `yaml:"burst"`
	// Mode is strict (the default) or fast, and makes no difference for a node that
	// counts alone.
	//
	// strict never admits more than the limit on all nodes together: one node owns
	// each count, and a check of another waits for its word.
	//
	// fast lets each node decide at once, by what it knows. Nodes tell each other
	// what they have admitted within fast.every, so a limit may be exceeded by what
	// all but one admit until they have heard: for limits of thousands, which protect
	// what is behind them. ExplainRules tells by how much. It is for sliding, and for
	// fixed with the windows of the clock; large or small, limits are counted in
	// tenths of a window. To change the mode begins a new count where several nodes
	// count. What to do while a node is silent says OnUnavailable.
	Mode string `yaml:"mode"`
	// Kind is rate (the default), steps for a budget of steps in a context, or loop
	// for how often one and the same call may be repeated in a context: the refusals
	// of these two tell an agent to stop rather than to retry. A loop is keyed by
	// context and call.
	Kind string `yaml:"kind"`
	// Cost is weight (the default), to count what a check says it costs, or one,
	// to count checks.
	Cost string `yaml:"cost"`
	// Quota is a durable limit of a day, a week or a month instead of rates: a
	// rule with it has neither limit nor concurrency.
	Quota Quota `yaml:"quota"`
	// Concurrency limits permits instead of, or besides, rates.
	Concurrency Concurrency `yaml:"concurrency"`
	// Shadow makes the rule count and report, but never refuse.
	Shadow bool `yaml:"shadow"`
	// OnUnavailable is what to do when the node that owns a count has not answered
	// for cluster.patience, once or twice. A single node is never without.
	//
	// deny (the default) fails the check, which is safe.
	//
	// share lets each node admit a fair part of what is left as far as it knows. Of
	// a key only its owner and the heir know; another node gives out its part of the
	// whole limit. So of N nodes all together may admit up to (N-2)/N of the limit more
	// than it for as long as there is no owner, 1.3 s after a crash; two nodes admit no
	// more than it, but for what was not copied yet.
	//
	// allow lets it pass.
	//
	// In fast mode it is about other nodes from which nothing complete was heard for
	// fast.silence: deny fails the check; share, which is the default then, admits on
	// each of N nodes up to an N-th of the limit, while that is known not to exceed it;
	// allow goes on with what is known, so of nodes that cannot hear each other each
	// admits up to the limit.
	//
	// Such answers have degraded set, and are counted by a metric; what they admitted
	// is charged to the next owner, up to the limit. Checks with an idempotency key,
	// and permits, are always denied.
	OnUnavailable string `yaml:"on_unavailable"`
	// Overrides are tried in order; the first that matches takes the place of
	// Limit, with counts of its own.
	Overrides []Override `yaml:"overrides"`
}

// Concurrency limits how much goes on at a time.
type Concurrency struct {
	// Max is the number of permits; zero means that there is no such limit.
	Max uint32 `yaml:"max"`
	// TTL is how long a permit lives at most; a minute when zero.
	TTL time.Duration `yaml:"ttl"`
}

// Override is another limit for some of those whom a rule matches.
type Override struct {
	// When holds patterns as in [Rule].
	When map[string]Strings `yaml:"when"`
	// Limit is as in [Rule].
	Limit Strings `yaml:"limit"`
	// Burst is as in [Rule].
	Burst uint32 `yaml:"burst"`
	// Amount takes the place of that of a quota; what was spent stays spent.
	Amount uint64 `yaml:"amount"`
	// Unlimited exempts from the rule, its concurrency too.
	Unlimited bool `yaml:"unlimited"`
}

// Strings is a list that may be written as one string.
type Strings []string

// UnmarshalYAML reads a string or a list of strings.
func (s *Strings) UnmarshalYAML(decode func(any) error) error {
	var one string
	if err := decode(&one); err == nil {
		*s = Strings{one}
		return nil
	}
	var many []string
	if err := decode(&many); err != nil {
		return err
	}
	*s = many
	return nil
}

// DefaultConfig returns the values that hold where the file is silent. Rules in
// the file replace all of these.
func DefaultConfig() Config {
	return Config{
		Rules: []Rule{{
			ID:    "per-ip-calls",
			Match: map[string]Strings{"action": {"tools/call"}},
			Key:   []string{"ip"},
			Limit: Strings{"120/minute"},
		}, {
			ID:    "per-key",
			Match: map[string]Strings{"key": {"*"}},
			Key:   []string{"key"},
			Limit: Strings{"600/minute"},
		}, {
			ID:    "summarize-logs-per-ip",
			Match: map[string]Strings{"tool": {"summarize_logs"}},
			Key:   []string{"ip"},
			Limit: Strings{"5/minute"},
		}, {
			// Not for contexts that are only guessed from who calls.
			ID:    "steps-explicit",
			Match: map[string]Strings{"context_source": {"explicit", "trace", "session"}},
			Key:   []string{"user", "context"},
			Limit: Strings{"200/hour"},
			Kind:  kindSteps,
		}, {
			// The same tool with the same arguments again and again.
			ID:    "same-call",
			Match: map[string]Strings{"context_source": {"explicit", "trace", "session"}, "action": {"tools/call"}},
			Key:   []string{"user", "context", "call"},
			Limit: Strings{"20/5 minutes"},
			Kind:  kindLoop,
			Cost:  "one",
		}, {
			ID:    "per-ip-other",
			Match: map[string]Strings{"action": {"!tools/call"}},
			Key:   []string{"ip"},
			Limit: Strings{"600/minute"},
		}},
		MaxKeys:     1_000_000,
		MaxReplays:  16_384,
		MaxBookings: 1_000_000,
		Cluster:     cluster.DefaultConfig(),
		Fast:        fast.DefaultConfig(),
	}
}

// CheckFiles reports every mistake in RulesFiles, with its place.
func (c Config) CheckFiles() error {
	_, err := newRuleSource(c, slog.New(slog.DiscardHandler)).first()
	return err
}

// Validate reports every mistake at once.
func (c Config) Validate() error {
	_, err := compile(c)
	if len(c.RulesFiles) > 0 && !reflect.DeepEqual(c.Rules, DefaultConfig().Rules) {
		err = errors.Join(err, &mistake{"rules", errors.New("stand in rules_files already; write rules in one of the two places")})
	}
	return errors.Join(err, c.Cluster.Validate(), c.Fast.Validate())
}
