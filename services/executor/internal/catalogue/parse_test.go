package catalogue_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sallyport-mcp/sallyport/pkg/bus"
	executorv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/executor/v1"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/catalogue"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/rules"
	"github.com/sallyport-mcp/sallyport/services/executor/internal/tooltest"
)

// An announcement is the service's that its key names, or nobody's.
func FuzzParse(f *testing.F) {
	check, err := rules.NewChecker((&executorv1.Announcement{}).ProtoReflect().Descriptor())
	if err != nil {
		f.Fatal(err)
	}
	raw, err := proto.Marshal(&executorv1.Announcement{
		Service: "basics", Instance: "1", Address: "inproc:basics", Descriptors: tooltest.Image(f, "basics"),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("basics.1", raw)
	f.Add("basics.2", raw)
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, key string, raw []byte) {
		a, err := catalogue.Parse(bus.Entry{Key: key, Value: raw}, check)
		if err == nil && (a.GetService() == "" || key != a.GetService()+"."+a.GetInstance() || a.GetAddress() == "") {
			t.Errorf("Parse(%q) = %v", key, a)
		}
	})
}
