package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	auditv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/audit/v1"
	"github.com/sallyport-mcp/sallyport/services/audit/internal/index"
)

// A page token holds the key of the last event of a page, and what was asked
// for. It is not secret and not signed: it can only move its holder within what
// the holder may read anyway. It is checked so that a mistake is an error and
// not a wrong page.
const (
	cursorVersion = 1
	cursorSize    = 1 + 8 + 8 + 26 + 4 // version, question, time, id, checksum
)

var errCursor = errors.New("the page token is not ours, or belongs to another filter or order")

// question identifies what a token belongs to.
func question(f *auditv1.Filter, oldestFirst bool) ([8]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(f)
	if err != nil {
		return [8]byte{}, err
	}
	if oldestFirst {
		raw = append(raw, 1)
	} else {
		raw = append(raw, 0)
	}
	sum := sha256.Sum256(raw)
	return [8]byte(sum[:8]), nil
}

func writeCursor(question [8]byte, k index.Key) string {
	b := make([]byte, 0, cursorSize)
	b = append(b, cursorVersion)
	b = append(b, question[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(k.Time))
	b = append(b, k.ID...)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return base64.RawURLEncoding.EncodeToString(b)
}

func readCursor(question [8]byte, token string) (index.Key, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != cursorSize || b[0] != cursorVersion {
		return index.Key{}, errCursor
	}
	body, sum := b[:cursorSize-4], binary.BigEndian.Uint32(b[cursorSize-4:])
	if crc32.ChecksumIEEE(body) != sum || [8]byte(body[1:9]) != question {
		return index.Key{}, errCursor
	}
	return index.Key{Time: int64(binary.BigEndian.Uint64(body[9:17])), ID: string(body[17:])}, nil
}
