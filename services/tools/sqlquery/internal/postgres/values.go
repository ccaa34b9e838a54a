package postgres

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sallyport-mcp/sallyport/services/tools/sqlquery/internal/table"
)

// bind returns parameters as text. Their types are left to the server, which
// infers them from the query as it does for literals, but for fractions: it
// would infer an integer where one is compared with an integer.
func bind(args []any) (values [][]byte, types []uint32) {
	values = make([][]byte, len(args))
	types = make([]uint32, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case nil: // NULL
		case string:
			values[i] = []byte(a)
		case float64:
			values[i] = strconv.AppendFloat(nil, a, 'g', -1, 64)
			types[i] = pgtype.NumericOID
		default: // int64, bool
			values[i] = fmt.Append(nil, a)
		}
	}
	return values, types
}

// value reads the text form of a value.
func value(text []byte, oid uint32) *structpb.Value {
	if text == nil {
		return structpb.NewNullValue()
	}
	s := string(text)
	switch oid {
	case pgtype.BoolOID:
		return structpb.NewBoolValue(s == "t")
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return table.Int(n)
		}
	case pgtype.Float4OID, pgtype.Float8OID:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return table.Float(f)
		}
	case pgtype.NumericOID:
		return numeric(s)
	case pgtype.TimestamptzOID:
		if t, err := time.Parse("2006-01-02 15:04:05.999999999Z07", s); err == nil {
			return table.Time(t)
		}
	case pgtype.TimestampOID:
		return structpb.NewStringValue(strings.Replace(s, " ", "T", 1))
	case pgtype.ByteaOID:
		return bytea(s)
	}
	return table.Text(text)
}

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
