package policy

import (
	"strconv"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// number returns the value of a JSON number. It depends on the number alone and
// not on how it is written: otherwise a policy that forbids 1000 would let 1e3
// pass. It is exact, which floating point is not.
func number(text string) cedar.Value {
	digits, negative := strings.CutPrefix(text, "-")
	mantissa, power, _ := strings.Cut(strings.ToLower(digits), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")

	digits = strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return cedar.Long(0)
	}
	exponent := 0
	if power != "" {
		var err error
		// 32 bits, so that what is added below cannot overflow.
		if exponent, err = parseInt32(power); err != nil {
			return cedar.String(text)
		}
	}
	exponent -= len(fraction)
	short := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(short)

	sign := ""
	if negative {
		sign = "-"
	}
	switch {
	case exponent >= 0 && len(short)+exponent <= 19:
		if n, err := strconv.ParseInt(sign+short+strings.Repeat("0", exponent), 10, 64); err == nil {
			return cedar.Long(n)
		}
	case exponent >= -4 && exponent < 0:
		padded := strings.Repeat("0", max(0, 1-exponent-len(short))) + short
		point := len(padded) + exponent
		if n, err := types.ParseDecimal(sign + padded[:point] + "." + padded[point:]); err == nil {
			return n
		}
	}
	return cedar.String(sign + short + "e" + strconv.Itoa(exponent))
}

func parseInt32(s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	return int(n), err
}
