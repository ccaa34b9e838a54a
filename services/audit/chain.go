package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
)

// chains follows the chain of each producer through the stream.
type chains struct {
	// cut is set if the beginning of the stream is gone. That is one finding,
	// and that every chain begins late is not a finding for each.
	cut  bool
	last map[string]link
}

// link is the newest batch of a chain.
type link struct {
	sequence uint64
	sum      [sha256.Size]byte
}

// add checks that b, whose bytes are data, is the next batch of its producer. It
// returns what is wrong, in a sentence, and whether that is about what is not
// there. again says that b is the batch before once more.
//
// A chain says nothing about its end, nor about a producer of whom everything
// is gone, and one who can write to the stream can forge a batch that fits. He
// is found out when the true producer continues; if it does not, only a log
// signed over all producers could tell.
func (c *chains) add(b batch, data []byte) (problem string, absent, again bool) {
	sum := sha256.Sum256(data)
	before, known := c.last[b.producer]
	if known && b.sequence == before.sequence && sum == before.sum {
		// A recorder whose publish was acknowledged, but did not hear it, tries
		// again until it does. After an outage longer than the stream
		// remembers ids the batch is there twice, which hides nothing.
		return "", false, true
	}
	if known && b.sequence <= before.sequence {
		// Not taken for the end of the chain: the true batch would seem wrong.
		return fmt.Sprintf("batch %d stands after batch %d", b.sequence, before.sequence), false, false
	}
	c.last[b.producer] = link{b.sequence, sum}

	switch {
	case b.sequence == 1 && len(b.previous) > 0:
		return "batch 1 names a batch before it", false, false
	case b.sequence > 1 && len(b.previous) == 0:
		return fmt.Sprintf("batch %d does not name the batch before it", b.sequence), false, false
	case !known && b.sequence > 1 && c.cut:
		return "", false, false
	case b.sequence > before.sequence+1: // also of a producer not known before
		return missing("batch", before.sequence+1, b.sequence-1), true, false
	case known && !bytes.Equal(b.previous, before.sum[:]):
		return fmt.Sprintf("batch %d does not follow batch %d as it stands here: one of them was changed", b.sequence, before.sequence), false, false
	}
	return "", false, false
}

// missing says which of numbered things are missing.
func missing(thing string, from, to uint64) string {
	if from == to {
		return fmt.Sprintf("%s %d is missing", thing, from)
	}
	return fmt.Sprintf("%s %d to %d are missing", thing, from, to)
}
