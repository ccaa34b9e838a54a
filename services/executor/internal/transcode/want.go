package transcode

import (
	"regexp"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// DurationPattern is how a google.protobuf.Duration is written; protobuf itself
// would take "+1s" and ".5s" too.
const DurationPattern = `^-?[0-9]+(\.[0-9]{1,9})?s$`

var durations = regexp.MustCompile(DurationPattern)

// wants says what a value must be, in the words of an answer.
var wants = map[protoreflect.Kind]string{
	protoreflect.BoolKind:     "true or false",
	protoreflect.Int32Kind:    "an integer from -2147483648 to 2147483647",
	protoreflect.Sint32Kind:   "an integer from -2147483648 to 2147483647",
	protoreflect.Sfixed32Kind: "an integer from -2147483648 to 2147483647",
	protoreflect.Uint32Kind:   "an integer from 0 to 4294967295",
	protoreflect.Fixed32Kind:  "an integer from 0 to 4294967295",
	protoreflect.Int64Kind:    "a 64-bit integer",
	protoreflect.Sint64Kind:   "a 64-bit integer",
	protoreflect.Sfixed64Kind: "a 64-bit integer",
	protoreflect.Uint64Kind:   "a 64-bit integer, not negative",
	protoreflect.Fixed64Kind:  "a 64-bit integer, not negative",
	protoreflect.FloatKind:    "a number of 32-bit range",
	protoreflect.DoubleKind:   "a number",
	protoreflect.StringKind:   "a string",
	protoreflect.BytesKind:    "a string of base64",
	protoreflect.EnumKind:     "one of the names in the schema",
	protoreflect.MessageKind:  "an object",
	protoreflect.GroupKind:    "an object",
}

var textWants = map[protoreflect.FullName]string{
	"google.protobuf.Timestamp": `a time in RFC 3339, such as "2026-01-31T10:00:00Z"`,
	"google.protobuf.Duration":  `a duration in seconds, such as "1.5s"`,
	"google.protobuf.FieldMask": `a string of field names with commas between them`,
}
