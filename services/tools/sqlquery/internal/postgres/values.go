package postgres

import (
	"encoding/hex"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// numeric returns a decimal number as a number where that is exact to the last
// of 15 digits, which float64 can hold, else as text. Zeros at the end of a
// fraction, which averages have many of, do not count.
func numeric(s string) *structpb.Value {
	if strings.Contains(s, ".") {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return structpb.NewStringValue(s)
	}
	whole, fraction, _ := strings.Cut(strings.TrimLeft(s, "-0"), ".")
	switch digits := len(whole) + len(fraction); {
	case digits <= 15:
	case fraction != "" && len(whole) <= 9:
		// A quotient such as 12.3333333333333333: nobody needs its digits 16 to 20.
	default:
		return structpb.NewStringValue(s)
	}
	return table.Float(f)
}

func bytea(s string) *structpb.Value {
	digits, ok := strings.CutPrefix(s, `\x`)
	if b, err := hex.DecodeString(digits); ok && err == nil {
		return table.Text(b)
	}
	return structpb.NewStringValue(s)
}
