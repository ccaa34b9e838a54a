package audit

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
)

// maxBatchEvents is the rule of Batch.events. It is checked before anything is
// allocated for the events.
const maxBatchEvents = 1024

// batch is an auditv1.Batch of which the events are still bytes: they are kept
// and compared exactly as they were written.
type batch struct {
	producer string
	sequence uint64
	previous []byte
	events   [][]byte
}

// openBatch reads a message of the stream, which anybody with a connection to
// NATS may have written. The error says in a sentence what is wrong with it.
func openBatch(data []byte) (batch, error) {
	var b batch
	fields := (&auditv1.Batch{}).ProtoReflect().Descriptor().Fields()
	producer := fields.ByName("producer").Number()
	sequence := fields.ByName("sequence").Number()
	previous := fields.ByName("previous").Number()
	events := fields.ByName("events").Number()
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return batch{}, errors.New("the message is not a batch")
		}
		data = data[n:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(data)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(data)
		default:
			n = protowire.ConsumeFieldValue(field, kind, data)
		}
		if n < 0 {
			return batch{}, errors.New("the message is not a batch")
		}
		data = data[n:]
		switch {
		case field == producer && kind == protowire.BytesType:
			b.producer = string(value)
		case field == sequence && kind == protowire.VarintType:
			b.sequence = number
		case field == previous && kind == protowire.BytesType:
			b.previous = value
		case field == events && kind == protowire.BytesType:
			if len(b.events) == maxBatchEvents {
				return batch{}, fmt.Errorf("the batch has more than %d events", maxBatchEvents)
			}
			b.events = append(b.events, value)
		}
	}
	switch {
	case b.producer == "" || len(b.producer) > 128:
		return batch{}, fmt.Errorf("the name of its producer has %d bytes", len(b.producer))
	case b.sequence == 0:
		return batch{}, errors.New("the batch has no sequence")
	case len(b.previous) != 0 && len(b.previous) != 32:
		return batch{}, fmt.Errorf("the hash of the batch before has %d bytes", len(b.previous))
	case len(b.events) == 0:
		return batch{}, errors.New("the batch is empty")
	}
	return b, nil
}
