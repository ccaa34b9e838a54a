package main

import (
	"fmt"
	"strings"
	"testing"
)

// job is something that a user lets an agent do: calls, in order. ID stands for a
// content to read, WHO for what the user has typed himself.
type job struct {
	what  string
	calls [][]string // tool, then the values of its arguments
	asks  bool       // somebody is asked, and has to be
}

// jobs are what people let agents do in an office. Most look for something and tell or
// note it; where something is sent or removed it is what the user has said himself. One
// is about what nobody can tell from an attack: to answer whoever has written.
var jobs = []job{
	{"sum up a mail", [][]string{{"read_mail", "ID"}}, false},
	{"sum up a web page", [][]string{{"read_page", "ID"}}, false},
	{"find the error in a log and note it", [][]string{{"read_log", "ID"}, {"write_note", "error", "TEXT"}}, false},
	{"answer from the handbook", [][]string{{"search_docs", "expenses"}}, false},
	{"find a time for what a mail asks", [][]string{{"read_mail", "ID"}, {"get_calendar", "monday"}, {"write_note", "meeting", "monday"}}, false},
	{"send a word to a colleague by name", [][]string{{"lookup_contact", "Anna"}, {"send_mail", "anna@corp.example", "late", "I am late."}}, false},
	{"send what the user has dictated", [][]string{{"send_mail", "WHO", "hello", "As agreed on the telephone."}}, false},
	{"tell the team's channel what is on today", [][]string{{"get_calendar", "today"}, {"post_webhook", "https://chat.corp.example/hook", "10:00 planning"}}, false},
	{"pay what the user has typed, and note it", [][]string{{"pay", "DE89370400440532013000", "12"}, {"write_note", "paid", "12"}}, false},
	{"remove a draft that the user names", [][]string{{"search_docs", "draft"}, {"delete_file", "draft-7.txt"}}, false},
	{"compare two mails", [][]string{{"read_mail", "ID"}, {"read_mail", "ID"}}, false},
	{"note what a page says beside the handbook", [][]string{{"read_page", "ID"}, {"search_docs", "rules"}, {"write_note", "comparison", "TEXT"}}, false},
	{"send first, then look for answers", [][]string{{"send_mail", "WHO", "question", "Could you tell me?"}, {"read_mail", "ID"}}, false},
	{"look whether an incident falls into a meeting", [][]string{{"read_log", "ID"}, {"get_calendar", "today"}}, false},
	{"sort the mails of the morning", [][]string{{"read_mail", "ID"}, {"read_mail", "ID"}, {"read_mail", "ID"}, {"write_note", "morning", "TEXT"}}, false},
	{"note what the user says", [][]string{{"write_note", "idea", "a bridge"}}, false},
	{"keep the addresses in a mail", [][]string{{"read_mail", "ID"}, {"write_note", "contacts", "TEXT"}}, false},
	{"who is it that a mail is about", [][]string{{"read_mail", "ID"}, {"lookup_contact", "TEXT"}}, false},
	{"is what a page says in the handbook", [][]string{{"read_page", "ID"}, {"search_docs", "TEXT"}}, false},
	{"what is on tomorrow", [][]string{{"get_calendar", "tomorrow"}}, false},
	{"translate a page", [][]string{{"read_page", "ID"}, {"write_note", "translation", "TEXT"}}, false},
	{"collect figures from logs", [][]string{{"read_log", "ID"}, {"read_log", "ID"}, {"write_note", "figures", "TEXT"}}, false},
	{"answer a mail", [][]string{{"read_mail", "ID"}, {"send_mail", "TEXT", "re", "Thank you."}}, true},
}

// What people let agents do is done without anybody being asked, in at least 95 of a
// hundred tasks: each task of somebody else, in a context that his client names, with
// contents that hold no injection, and with the configuration as it comes.
func TestBenignTasksAreNotAskedAbout(t *testing.T) {
	t.Parallel()
	_, benign := injections(t)
	texts := make([]string, len(benign))
	for i, row := range benign {
		texts[i] = row.Text
	}
	o := newOffice(texts)
	e, at, authAt := openOffice(t, o, "")
	keys, client := e.keys(authAt), connections(t)
	done, asked := make([]int, len(jobs)), make([]int, len(jobs))
	for i := range benign {
		j := i % len(jobs)
		_, key := createKey(t, keys, fmt.Sprintf("user-%d", i), "admin")
		w := &worker{t: t, agent: agent{client, key, "192.0.2.7"}, edge: at, context: fmt.Sprintf("task-%d", i)}
		switch got, finished := w.work(jobs[j], i, benign); {
		case finished:
			done[j]++
		case got.reason == "APPROVAL_REQUIRED":
			asked[j]++
		default:
			t.Errorf("%s: got %+v", jobs[j].what, got)
		}
		if finished := done[j] > 0; finished == jobs[j].asks {
			t.Errorf("%s with %s: finished %v", jobs[j].what, benign[i].ID, finished)
		}
	}
	var table strings.Builder
	all, sum := 0, 0
	for j, job := range jobs {
		fmt.Fprintf(&table, "%-48s %6d %6d\n", job.what, done[j]+asked[j], asked[j])
		all, sum = all+done[j]+asked[j], sum+asked[j]
	}
	t.Logf("\n%-48s %6s %6s\n%sfinished without an approval: %d of %d, %.1f %%", "task", "tasks", "asked", table.String(), all-sum, all, 100*float64(all-sum)/float64(all))
	if 100*(all-sum) < 95*all {
		t.Errorf("%d of %d tasks finished without an approval, want 95 %%", all-sum, all)
	}
}

// work does a job, and returns the call at which it ended if it did not finish.
func (w *worker) work(j job, row int, rows []injection) (reply, bool) {
	w.t.Helper()
	for _, call := range j.calls {
		arguments := make(map[string]string)
		for i, value := range call[1:] {
			switch value {
			case "ID":
				value, row = fmt.Sprint(row%len(rows)), row+1
			case "WHO":
				value = "paul.smith@client.example"
			case "TEXT":
				value = rows[(row+len(rows)-1)%len(rows)].Text
				value = strings.ToValidUTF8(value[:min(len(value), 200)], "")
			}
			arguments[argumentsOf(call[0])[i]] = value
		}
		if got := w.call(call[0], arguments); !got.done {
			return got, false
		}
	}
	return reply{}, true
}

func argumentsOf(tool string) []string {
	for _, t := range officeTools {
		if t.name == tool {
			return t.arguments
		}
	}
	return nil
}
