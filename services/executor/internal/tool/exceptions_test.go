package tool_test

// exception is what differs, by a part of what is told of it, and why.
type exception struct{ text, reason string }

// Of these follows what else is told.
const (
	twice = "is given twice"
	alias = "is not known; the name is"
)

// stricter is what protobuf takes and the executor does not: there is one way to
// write a thing, which the schema shows.
var stricter = []exception{
	{alias, "one spelling of a name"},
	{"not null; leave it out", "null is not another way to leave something out"},
	{"must be one of the names in the schema, not a number", "an enum has names"},
	{"must be a number, not a string", "no numbers in strings, and so neither NaN nor infinity"},
	{"must be a number of 32-bit range, not a string", "no numbers in strings"},
	{"must be an integer from -2147483648 to 2147483647, not a string", "no numbers in strings"},
	{"must be an integer from 0 to 4294967295, not a string", "no numbers in strings"},
	{"must be a 64-bit integer", "in a string, digits alone: not 1e3 or 1.0"},
	{"is a number that is too long", "a bound on what is read"},
	{"must be a duration in seconds", "one spelling: not +1s or .5s"},
	{"must be a string of base64", "one alphabet, padded in full or not at all"},
	{"its name must be", "one spelling of a number: not 007"},
}

// wider is what the schema allows and the executor does not: JSON Schema has no
// word for it, or one that is an annotation.
var wider = []exception{
	// Of JSON.
	{twice, "JSON Schema sees one of them"},
	{"is a number that is too long", "a bound on what is read"},
	// Of messages: the schema's description says it.
	{"cannot be given together with", "oneof: keywords for it are not liked at the root"},
	{"can be set", "an exclusive group"},
	{"must be set", "a group of which one must be given"},
	{"one of its fields must be given", "a oneof of which one must be given"},
	{"low is at most high", "CEL"},
	{"cannot have it spicy", "CEL"},
	{"must be even", "CEL"},
	{"must be odd", "CEL"},
	// Of texts: format and contentEncoding are annotations.
	{"must be a string of base64", "contentEncoding"},
	{"must be a time in RFC 3339", "format"},
	{"must be a duration in seconds", "its range"},
	{"must be a string of field names", "free text"},
	{"must be a valid ", "format"},
	{"is empty, which is not a valid", "format"},
	{"does not match regex pattern `(?i)", "RE2 alone can say it; it is in the description"},
	{" bytes", "lengths in bytes of characters, or of base64 to the block"},
	// Of integers in strings.
	{"must be a 64-bit integer", "a string of too many digits"},
	{"must be greater than", "a bound, and a string of digits"},
	{"must be less than", "a bound, and a string of digits"},
	// Of equality.
	{"repeated value must contain unique items", "two texts that are the same bytes, or numbers that are to a float"},
	{"must be 0102", "a constant of bytes"},
	{"must equal", "a constant of bytes, times and durations"},
	{"must be in list", "a list of bytes, times and durations"},
	{"must not be in list", "a list of bytes, times and durations"},
	// Of bytes, times and names, whose rules have no keyword.
	{"its name must be", "the range of a name"},
	{"must match regex pattern", "bytes"},
	{"must only contain paths", "names of fields"},
	{"must be within", "times"},
	{"does not have prefix", "bytes"},
	{"does not have suffix", "bytes"},
	{"does not contain", "bytes"},
	{"a rule cannot be applied", "bytes"},
}

// rounded is what the executor takes and the schema does not.
var rounded = []exception{
	{"minimum: -1000000015047466219876688855040/1", "a bound of 32 bits is published in its shortest form, which is not quite it"},
	{"/properties/real: not:", "minus zero is something else than nothing to protobuf, and the same to JSON Schema"},
}
