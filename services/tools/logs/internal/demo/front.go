package demo

import (
	"fmt"
	"time"
)

// authLog is the machine's own log: syslog.
func authLog() []event {
	d := &dice{state: 0xa07}
	var out []event
	add := func(at time.Time, program, text string) {
		out = append(out, event{at, fmt.Sprintf("%s shop-1 %s[%d]: %s", at.Format("Jan _2 15:04:05"), program, 400+d.roll(9000), text)})
	}
	for range 230 {
		at, from := d.anyTime(), fmt.Sprintf("%s port %d", d.client(), 1024+d.roll(60000))
		switch n := d.roll(100); {
		case n < 30:
			add(at, "sshd", fmt.Sprintf("Accepted publickey for deploy from %s ssh2", from))
		case n < 60:
			add(at, "sshd", fmt.Sprintf("Failed password for invalid user %s from %s ssh2", d.pick("admin", "oracle", "test", "pi"), from))
		case n < 80:
			add(at, "sshd", fmt.Sprintf("Connection closed by %s [preauth]", from))
		case n < 95:
			add(at, "cron", fmt.Sprintf("(root) CMD (/usr/local/bin/%s)", d.pick("backup", "rotate")))
		default:
			add(at, "kernel", fmt.Sprintf("Out of memory: killed process %d (report) error -12", 1000+d.roll(9000)))
		}
	}
	// With colours, a character that turns the text around and one without width.
	for range 3 {
		add(d.anyTime(), "sshd", "error: bad client version \x1b[31m"+bait+"\x1b[0m\u202e\u200b")
	}
	return out
}

// accessLog is the web server's: the combined log format.
func accessLog() []event {
	d := &dice{state: 0xacce55}
	var out []event
	add := func(at time.Time, request string, status int) {
		out = append(out, event{at, fmt.Sprintf(`%s - - [%s] "%s HTTP/1.1" %d %d "-" %q`, d.client(),
			at.Format("02/Jan/2006:15:04:05 -0700"), request, status, 200+d.roll(9000),
			d.pick("Mozilla/5.0 (X11; Linux x86_64)", "curl/8.9.1", "shop-app/3.2"))})
	}
	for range 560 {
		at := d.anyTime()
		switch n := d.roll(100); {
		case n < 35:
			add(at, fmt.Sprintf("GET /products/%d", 1+d.roll(80)), 200)
		case n < 60:
			add(at, fmt.Sprintf("GET /search?q=%s", d.pick("tea", "cup", "kettle")), 200)
		case n < 75:
			add(at, "POST /cart", 201)
		case n < 88:
			add(at, "POST /checkout", 303)
		case n < 97:
			add(at, d.pick("GET /wp-login.php", "GET /favicon.ico", "GET /.env"), 404)
		default:
			add(at, fmt.Sprintf("GET /orders/%d", 10000+d.roll(5000)), 500)
		}
	}
	for range 70 {
		add(d.outage(), "POST /checkout", 502)
	}
	return out
}
