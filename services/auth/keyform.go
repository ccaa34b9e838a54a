package auth

import (
	"errors"
	"regexp"

	"github.com/sallyport-mcp/sallyport/services/auth/internal/apikey"
)

// KeyPattern is a regular expression (RE2 and PCRE) that finds API keys in text.
const KeyPattern = apikey.Pattern

// What is wrong with a text that is not a key. They repeat nothing of it.
var (
	// ErrKeyForm says that the text does not look like a key.
	ErrKeyForm = errors.New("this is not of the form of a key")
	// ErrKeyChecksum says that it looks like one that was never issued.
	ErrKeyChecksum = errors.New("this looks like a key, but its checksum is wrong: a character was changed, or somebody made it up")
)

// CheckKey reads a key and returns what may be shown of it, with the environment it
// is for and its public id. That it is well-formed does not mean that it is good.
func CheckKey(text string) (masked, env, id string, err error) {
	token, err := apikey.Parse(text)
	if err == nil {
		return token.String(), token.Env, token.ID, nil
	}
	if looks, err := regexp.MatchString("^"+KeyPattern+"$", text); err == nil && looks {
		return "", "", "", ErrKeyChecksum
	}
	return "", "", "", ErrKeyForm
}
