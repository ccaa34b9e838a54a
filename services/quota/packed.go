package quota

import (
	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	faultv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/fault/v1"
	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// unpack makes checks of the packed ones of a message.
func unpack(req *quotav1.CheckStreamRequest) error {
	if len(req.GetPacked()) == 0 {
		return nil
	}
	all := make([]struct { // in one piece
		check   quotav1.CheckRequest
		subject quotav1.Subject
	}, len(req.GetPacked()))
	req.Checks = make([]*quotav1.CheckRequest, len(all))
	for i, from := range req.GetPacked() {
		if len(from.GetValues()) > len(req.GetNames()) {
			return fault.New(codes.InvalidArgument, faultv1.Reason_REASON_INVALID,
				"packed[%d] has %d values, and the message %d names", i, len(from.GetValues()), len(req.GetNames()))
		}
		to, subject := &all[i].check, &all[i].subject
		subject.Attributes = make(map[string]string, len(from.GetValues()))
		for j, value := range from.GetValues() {
			if value != "" {
				subject.Attributes[req.GetNames()[j]] = value
			}
		}
		to.Subject, to.Cost, to.IdempotencyKey = subject, from.Cost, from.GetIdempotencyKey()
		to.Lease, to.Estimates = from.GetLease(), from.GetEstimates()
		req.Checks[i] = to
	}
	req.Packed = nil
	return nil
}
