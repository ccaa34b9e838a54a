package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	toolv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tool/v1"
)

// agentDojo says which tools AgentDojo's own user tasks use and in which order.
//
//go:embed testdata/agentdojo/tasks.txt
var agentDojo string

// userTask is a task of a user of AgentDojo.
type userTask struct {
	suite, id string
	steps     []step
}

// step is a call of a task. Steers is where that comes from which says to whom or on
// what something is done: "user", "known", "read" or "none" (see testdata/agentdojo).
type step struct {
	tool   officeTool
	steers string
}

// userTasks reads tools and tasks.
func userTasks(t *testing.T) (tools []officeTool, tasks []userTask) {
	t.Helper()
	byName := make(map[string]officeTool)
	for line := range strings.Lines(agentDojo) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "tool" && len(words) >= 4:
			one := officeTool{
				name: words[1], risk: toolv1.Risk(toolv1.Risk_value["RISK_"+strings.ToUpper(words[2])]),
				trust: toolv1.Trust(toolv1.Trust_value["TRUST_"+strings.ToUpper(words[3])]), outbound: slices.Contains(words[4:], "outbound"),
				arguments: []string{"target", "text"},
			}
			if one.risk == toolv1.Risk_RISK_READ {
				one.arguments = []string{"id"}
			}
			tools, byName[one.name] = append(tools, one), one
		case words[0] == "task" && len(words) >= 4:
			task := userTask{suite: words[1], id: words[2]}
			for _, word := range words[3:] {
				name, steers, _ := strings.Cut(word, "=")
				tool, ok := byName[task.suite+"."+name]
				if !ok || (steers == "") != (tool.risk == toolv1.Risk_RISK_READ) {
					t.Fatalf("%s: there is no such tool, or it steers nothing: %q", line, word)
				}
				task.steps = append(task.steps, step{tool, steers})
			}
			tasks = append(tasks, task)
		default:
			t.Fatalf("not understood: %q", line)
		}
	}
	if len(tasks) != 97 {
		t.Fatalf("%d tasks, want all 97", len(tasks))
	}
	return tools, tasks
}

// asked is for which steps somebody has to be asked: for what destroys or sends, after
// untrusted content was read.
func (task userTask) asked() (all []step) {
	tainted := false
	for _, s := range task.steps {
		if tainted && s.tool.sink() {
			all = append(all, s)
		}
		tainted = tainted || s.tool.trust == toolv1.Trust_TRUST_UNTRUSTED
	}
	return all
}

// suiteTally is how the tasks of a suite ended.
type suiteTally struct {
	tasks, finished, questions int
	unsteered                  int // tasks that finish, or were asked about nothing that follows from what was read
}

// The tasks that AgentDojo's authors thought of for its users go through the system,
// with the configuration as it comes: what is asked about is what comes after untrusted
// content, and nothing else. It prints how many finish without anybody being asked; they
// are fewer than of our own tasks, for half of these were written so that an agent reads
// what somebody else has written and then sends, pays or deletes.
func TestTasksOfAgentDojo(t *testing.T) {
	t.Parallel()
	tools, tasks := userTasks(t)
	_, benign := injections(t)
	var texts []string // of each task what strangers have written, and then what the house knows
	for i := range tasks {
		texts = append(texts, fmt.Sprintf("%s\nfound-%d@outside.example", benign[i%len(benign)].Text, i), fmt.Sprintf("known-%d@corp.example", i))
	}
	o := newOffice(texts, tools...)
	e, at, authAt := openOffice(t, o, "")
	keys, client := e.keys(authAt), connections(t)
	tallies := make(map[string]*suiteTally)
	var all suiteTally
	for i, task := range tasks {
		_, key := createKey(t, keys, "user-"+strconv.Itoa(i), "admin")
		w := &worker{t: t, agent: agent{client, key, "192.0.2.7"}, edge: at, context: "task-" + strconv.Itoa(i)}
		if tallies[task.suite] == nil {
			tallies[task.suite] = new(suiteTally)
		}
		one := suiteTally{tasks: 1, finished: 1, unsteered: 1}
		want := task.asked()
		for _, s := range task.steps {
			got := w.call(s.tool.name, s.arguments(i))
			if got.done {
				continue
			}
			policy := "untrusted-content"
			if s.steers == "read" {
				policy = "untrusted-values"
			}
			if len(want) == 0 || want[0].tool.name != s.tool.name || got.reason != "APPROVAL_REQUIRED" || got.policy != policy {
				t.Fatalf("%s %s: %s: got %+v, want %s", task.suite, task.id, s.tool.name, got, policy)
			}
			want = want[1:]
			one.finished, one.questions = 0, one.questions+1
			if s.steers == "read" {
				one.unsteered = 0
			}
		}
		if len(want) > 0 {
			t.Errorf("%s %s: nobody was asked about %s", task.suite, task.id, want[0].tool.name)
		}
		tallies[task.suite].add(one)
		all.add(one)
	}
	var table strings.Builder
	for _, suite := range []string{"workspace", "travel", "banking", "slack"} {
		fmt.Fprintln(&table, tallies[suite].row(suite))
	}
	t.Logf("\n%-10s %6s %9s %7s %6s %10s\n%s%s", "suite", "tasks", "finished", "share", "asked", "unsteered", table.String(), all.row("all"))
}

// arguments are those of a step of a task.
func (s step) arguments(task int) map[string]string {
	if s.tool.risk == toolv1.Risk_RISK_READ {
		if s.tool.trust == toolv1.Trust_TRUST_UNTRUSTED {
			return map[string]string{"id": strconv.Itoa(2 * task)}
		}
		return map[string]string{"id": strconv.Itoa(2*task + 1)}
	}
	from := map[string]string{"user": "typed-%d@corp.example", "known": "known-%d@corp.example", "read": "found-%d@outside.example"}
	target := from[s.steers]
	if target != "" {
		target = fmt.Sprintf(target, task)
	}
	return map[string]string{"target": target, "text": "As agreed."}
}

func (s *suiteTally) add(o suiteTally) {
	s.tasks, s.finished, s.questions, s.unsteered = s.tasks+o.tasks, s.finished+o.finished, s.questions+o.questions, s.unsteered+o.unsteered
}

func (s *suiteTally) row(name string) string {
	return fmt.Sprintf("%-10s %6d %9d %5.1f %% %6d %10d", name, s.tasks, s.finished, 100*float64(s.finished)/float64(s.tasks), s.questions, s.unsteered)
}
