package toolkit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// usedKey names trailing metadata of a tool's answer; its form is in the contract,
// see sallyport.tool.v1.Use.
const usedKey = "sallyport-used"

// Bounds of a report.
const (
	// MaxUsed is the most of one unit that a call can have used.
	MaxUsed = 1_000_000_000_000
	// maxReports bounds how many values a report has.
	maxReports = 64
	// maxUnit is how long the name of a unit may be, in bytes.
	maxUnit = 32
)

// Used reports that the call that a tool is answering has used so much of a unit:
// Used(ctx, "rows", 42). ctx is the one that the RPC's handler was given, or one
// made of it. What is reported several times adds up. To report 0 says that nothing was
// used; where nothing is reported of a unit that the tool's option names, the
// option's estimate is charged. It can be called until the handler returns, and
// before it returns an error.
//
// The executor judges the report, and its log says what is wrong with one. Outside
// of a call there is nobody to report to, and nothing happens.
func Used(ctx context.Context, unit string, amount uint64) {
	if !isUnit(unit) {
		unit = "?" // which the executor complains of; other bytes would cost the whole answer
	}
	// The error says that there is no call.
	_ = grpc.SetTrailer(ctx, metadata.Pairs(usedKey, unit+"="+strconv.FormatUint(amount, 10)))
}

// UsedOf reads what a tool has reported in the trailer of a call: amounts by unit,
// each at most [MaxUsed]. A report that is malformed anywhere is an error, which
// does not repeat it, and then nothing of it counts.
func UsedOf(trailer metadata.MD) (map[string]uint64, error) {
	values := trailer.Get(usedKey)
	if len(values) == 0 {
		return nil, nil
	}
	if len(values) > maxReports {
		return nil, fmt.Errorf("%s has %d values, %d are the most", usedKey, len(values), maxReports)
	}
	all := make(map[string]uint64, len(values))
	for i, value := range values {
		unit, amount, err := readUsed(value)
		if err != nil {
			return nil, fmt.Errorf("%s, value %d of %d: %w", usedKey, i+1, len(values), err)
		}
		if all[unit] += amount; all[unit] > MaxUsed {
			return nil, fmt.Errorf("%s: the values of one unit add up to more than %d", usedKey, uint64(MaxUsed))
		}
	}
	return all, nil
}

// OfReport is the part of a trailer that is a report, for whoever passes calls on.
func OfReport(trailer metadata.MD) metadata.MD {
	values := trailer.Get(usedKey)
	if len(values) == 0 {
		return nil
	}
	return metadata.MD{usedKey: values}
}

func readUsed(value string) (unit string, amount uint64, err error) {
	const digits = 13 // of MaxUsed
	unit, number, ok := strings.Cut(value, "=")
	switch {
	case !ok:
		return "", 0, errors.New("it has no equals sign; write a unit and a whole number, such as rows=42")
	case !isUnit(unit):
		return "", 0, errors.New("the unit must be 1 to 32 lower-case letters, digits and underscores, a letter first")
	case len(number) < 1 || len(number) > digits || strings.Trim(number, "0123456789") != "":
		return "", 0, errors.New("the amount must be a whole number of 1 to 13 digits, without a sign")
	}
	if amount, err = strconv.ParseUint(number, 10, 64); err != nil || amount > MaxUsed {
		return "", 0, fmt.Errorf("the amount is more than %d", uint64(MaxUsed))
	}
	return unit, amount, nil
}

func isUnit(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', i > 0 && ('0' <= c && c <= '9' || c == '_'):
		default:
			return false
		}
	}
	return len(name) >= 1 && len(name) <= maxUnit
}
