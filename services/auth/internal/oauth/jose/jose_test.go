package jose_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/oauth/jose"
)

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := b64(`{"alg":"ES256"}`) + "." + b64(`{"sub":"a"}`) + ".c2ln"
	if _, err := jose.Parse(good); err != nil {
		t.Fatal(err)
	}
	header := func(h string) string { return b64(h) + "." + b64(`{"sub":"a"}`) + ".c2ln" }
	payload := func(p string) string { return b64(`{"alg":"ES256"}`) + "." + b64(p) + ".c2ln" }
	tests := []struct{ name, text string }{
		{"nothing", ""},
		{"two parts", "e30.e30"},
		{"five parts, which is encryption", good + ".YQ.YQ"},
		{"the JSON serialisation", `{"payload":"e30","signatures":[]}`},
		{"more than 16 KiB", payload(`{"a":"` + strings.Repeat("x", jose.MaxToken) + `"}`)},
		{"no signature", b64(`{"alg":"ES256"}`) + "." + b64(`{}`) + "."},
		{"padding", good + "="},
		{"a line end, which decoders skip", good[:10] + "\n" + good[10:]},
		{"base64 of the other alphabet", header(`{"alg":"ES256","kid":"~~~???"}`)[:4] + "+/" + good[6:]},
		{"bits after the end of base64", good[:len(good)-4] + "c2m"},
		{"space around", " " + good},
		{"a header that is no object", header(`["ES256"]`)},
		{"a header that is null", header(`null`)},
		{"something after the header", header(`{"alg":"ES256"}{}`)},
		{"alg twice", header(`{"alg":"none","alg":"ES256"}`)},
		{"alg twice, once escaped", header(`{"alg":"ES256","\u0061lg":"none"}`)},
		{"invalid UTF-8", header("{\"alg\":\"ES256\",\"kid\":\"\xff\"}")},
		{"no alg", header(`{"typ":"JWT"}`)},
		{"alg none", header(`{"alg":"none"}`)},
		{"alg none in other letters", header(`{"alg":"nOnE"}`)},
		{"alg empty", header(`{"alg":""}`)},
		{"alg that is a list", header(`{"alg":["ES256"]}`)},
		{"a secret's algorithm", header(`{"alg":"HS256"}`)},
		{"an algorithm in lower case", header(`{"alg":"es256"}`)},
		{"an algorithm of encryption", header(`{"alg":"RSA-OAEP"}`)},
		{"an extension that must be understood", header(`{"alg":"ES256","crit":["exp"],"exp":1}`)},
		{"an empty list of extensions", header(`{"alg":"ES256","crit":[]}`)},
		{"a payload that is not encoded", header(`{"alg":"ES256","b64":false}`)},
		{"compression", header(`{"alg":"ES256","zip":"DEF"}`)},
		{"a token in a token", header(`{"alg":"ES256","cty":"JWT"}`)},
		{"a kid that is a number", header(`{"alg":"ES256","kid":7}`)},
		{"a kid that is null", header(`{"alg":"ES256","kid":null}`)},
		{"a kid that is too long", header(`{"alg":"ES256","kid":"` + strings.Repeat("k", 257) + `"}`)},
		{"a payload that is no object", payload(`"sub"`)},
		{"a claim twice", payload(`{"sub":"a","sub":"b"}`)},
		{"a claim twice, further in", payload(`{"a":[{"r":1,"r":2}]}`)},
		{"something after the payload", payload(`{"sub":"a"} x`)},
		{"a payload that never ends", payload(strings.Repeat(`{"a":`, 2000))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, err := jose.Parse(tt.text); !errors.Is(err, jose.ErrMalformed) {
				t.Errorf("got %v, want it refused as malformed", err)
			}
		})
	}
}

func TestParseReads(t *testing.T) {
	t.Parallel()
	text := b64(`{"alg":"ES256","kid":"../../etc/passwd","typ":"Application/AT+JWT","jku":"https://evil.example/"}`) + "." + b64(`{}`) + ".c2ln"
	got, err := jose.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if got.Algorithm != "ES256" || got.KeyID != "../../etc/passwd" || got.Type != "at+jwt" {
		t.Errorf("got %q %q %q", got.Algorithm, got.KeyID, got.Type)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	c, err := jose.ParseClaims([]byte(`{"text":"a","list":["a","b"],"mixed":["a",1],"null":null,"n":1700000000,"max":9007199254740991,"over":9007199254740992,
		"neg":-1,"frac":1.5,"exp":1e9,"huge":1e400,"zero":0,"a":{"b":{"c":["x"]}},"https://x.example/roles":["y"],"s":"1700000000"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"n": 1700000000, "max": 9007199254740991, "zero": 0} {
		if got, ok, err := c.Time(name); err != nil || !ok || got.Unix() != want {
			t.Errorf("Time(%s): got %v %v %v, want %d", name, got, ok, err, want)
		}
	}
	for _, name := range []string{"over", "neg", "frac", "exp", "huge", "s", "null", "list"} {
		if got, _, err := c.Time(name); !errors.Is(err, jose.ErrType) {
			t.Errorf("Time(%s): got %v %v, want it refused", name, got, err)
		}
	}
	if _, ok, err := c.Time("absent"); ok || err != nil {
		t.Errorf("Time of nothing: got %v %v", ok, err)
	}
	for _, name := range []string{"mixed", "null", "n", "a"} {
		if got, err := c.Texts(name); !errors.Is(err, jose.ErrType) {
			t.Errorf("Texts(%s): got %v %v, want it refused", name, got, err)
		}
		if got, err := c.Text(name); !errors.Is(err, jose.ErrType) {
			t.Errorf("Text(%s): got %q %v, want it refused", name, got, err)
		}
	}
	for path, want := range map[string][]string{"list": {"a", "b"}, "text": {"a"}, "a.b.c": {"x"}, "https://x.example/roles": {"y"}, "a.x.c": nil, "text.b": nil} {
		object, name := c.At(path)
		got, err := object.Texts(name)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("At(%s): %v (-want +got):\n%s", path, err, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(b64(`{"alg":"ES256","kid":"k"}`) + "." + b64(`{"sub":"a","aud":["x"],"exp":1700000000}`) + ".c2ln")
	f.Add("e30.e30.e30")
	f.Add(b64(`{"alg":"RS256","crit":["x"]}`) + "." + b64(`{"a":{"a":1,"a":2}}`) + ".AA")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := jose.Parse(text)
		if err != nil {
			if !errors.Is(err, jose.ErrMalformed) {
				t.Errorf("got error %v of another kind", err)
			}
			return
		}
		parts := strings.Split(text, ".")
		for _, part := range parts {
			b, err := jose.Decode(part)
			if err != nil || base64.RawURLEncoding.EncodeToString(b) != part {
				t.Errorf("%q is not written in the one way there is", part)
			}
		}
		if strings.HasPrefix(token.Algorithm, "HS") || token.Algorithm == "none" {
			t.Errorf("took %s", token.Algorithm)
		}
		for name := range token.Claims {
			_, _ = token.Claims.Texts(name)
			_, _, _ = token.Claims.Time(name)
			_, _ = token.Claims.At(name)
		}
	})
}
