package transcode

import (
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sallyport-mcp/sallyport/pkg/strictjson"
)

// Field numbers of google/protobuf/struct.proto.
const (
	structFields = 1
	listValues   = 1

	valueNull   = 1
	valueNumber = 2
	valueString = 3
	valueBool   = 4
	valueStruct = 5
	valueList   = 6
)

// dynamic reads any JSON value into a google.protobuf.Value.
func (d *decoder) dynamic(into protoreflect.Message) (bool, error) {
	fields := into.Descriptor().Fields()
	switch kind := d.json.Kind(); kind {
	case '{':
		f := fields.ByNumber(valueStruct)
		v := into.NewField(f)
		ok, err := d.dynamicStruct(v.Message())
		into.Set(f, v)
		return ok, err
	case '[':
		f := fields.ByNumber(valueList)
		v := into.NewField(f)
		ok, err := d.dynamicList(v.Message())
		into.Set(f, v)
		return ok, err
	default:
		raw, err := d.json.Scalar()
		if err != nil {
			return false, err
		}
		switch kind {
		case 'n':
			into.Set(fields.ByNumber(valueNull), protoreflect.ValueOfEnum(0))
		case 't', 'f':
			into.Set(fields.ByNumber(valueBool), protoreflect.ValueOfBool(kind == 't'))
		case '"':
			into.Set(fields.ByNumber(valueString), protoreflect.ValueOfString(strictjson.Text(raw)))
		default:
			n, err := strconv.ParseFloat(string(raw), 64)
			if err != nil {
				d.wrong("must be a number that fits 64 bits")
				return false, nil
			}
			into.Set(fields.ByNumber(valueNumber), protoreflect.ValueOfFloat64(n))
		}
		return true, nil
	}
}

func (d *decoder) dynamicStruct(into protoreflect.Message) (bool, error) {
	if err := d.json.Enter(); err != nil {
		return false, err
	}
	all := into.Mutable(into.Descriptor().Fields().ByNumber(structFields)).Map()
	good := true
	for d.json.Kind() != '}' {
		name, err := d.json.Name()
		if err != nil {
			return false, err
		}
		key := strictjson.Text(name)
		at := d.push(key)
		v := all.NewValue()
		ok, err := d.dynamic(v.Message())
		if err != nil {
			return false, err
		}
		all.Set(protoreflect.ValueOfString(key).MapKey(), v)
		d.pointer = d.pointer[:at]
		good = good && ok
	}
	return good, d.json.Leave()
}

func (d *decoder) dynamicList(into protoreflect.Message) (bool, error) {
	if err := d.json.Enter(); err != nil {
		return false, err
	}
	all := into.Mutable(into.Descriptor().Fields().ByNumber(listValues)).List()
	good := true
	for i := 0; d.json.Kind() != ']'; i++ {
		at := d.pushIndex(i)
		v := all.NewElement()
		ok, err := d.dynamic(v.Message())
		if err != nil {
			return false, err
		}
		all.Append(v)
		d.pointer = d.pointer[:at]
		good = good && ok
	}
	return good, d.json.Leave()
}
