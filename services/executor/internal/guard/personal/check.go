package personal

import "strings"

// card checks a payment card's number: its length, the network's first digit, and
// Luhn's sum (ISO/IEC 7812-1).
func card(s string) bool {
	if len(s) < 13 || len(s) > 19 || s[0] < '2' || s[0] > '6' || strings.Trim(s, s[:1]) == "" {
		return false
	}
	if s[0] == '2' && (len(s) != 16 || s[:4] < "2221" || s[:4] > "2720") {
		return false
	}
	sum := 0
	for i := range len(s) {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// iban checks an account number (ISO 13616): mod 97 of it with its first four
// characters at the end.
func iban(s string) bool { return len(s) >= 15 && len(s) <= 34 && mod97(s[4:]+s[:4]) == 1 }

// mod97 reads letters as numbers from 10 on (ISO 7064).
func mod97(s string) int {
	n := 0
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			n = (n*10 + int(c-'0')) % 97
		case 'A' <= c && c <= 'Z':
			n = (n*100 + int(c-'A') + 10) % 97
		}
	}
	return n
}

// ssn rules out numbers that the Social Security Administration does not issue.
func ssn(s string) bool {
	return s[:3] != "000" && s[:3] != "666" && s[0] != '9' && s[3:5] != "00" && s[5:] != "0000"
}

// cpf checks the two check digits of Brazil's CPF.
func cpf(s string) bool {
	if strings.Trim(s, s[:1]) == "" {
		return false
	}
	for _, n := range []int{9, 10} {
		sum := 0
		for i := range n {
			sum += int(s[i]-'0') * (n + 1 - i)
		}
		if sum*10%11%10 != int(s[n]-'0') {
			return false
		}
	}
	return true
}

// dni checks the letter of Spain's DNI.
func dni(s string) bool {
	n := 0
	for _, c := range s[:8] {
		n = n*10 + int(c-'0')
	}
	return "TRWAGMYFPDXBNJZSQVHLCKE"[n%23] == s[8]
}

// nir checks the key of France's NIR, in which Corsica's 2A and 2B count as 19 and
// 18.
func nir(s string) bool {
	s = strings.NewReplacer("2A", "19", "2B", "18").Replace(s[:7]) + s[7:]
	if strings.ContainsAny(s, "AB") {
		return false
	}
	n, key := 0, int(s[13]-'0')*10+int(s[14]-'0')
	for _, c := range s[:13] {
		n = (n*10 + int(c-'0')) % 97
	}
	return 97-n == key
}
