package line

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/proto"
)

const (
	// maxFrame bounds a message, in bytes: the largest copies have a few millions.
	maxFrame = 16 << 20
	// headSize is how many bytes tell the length of a message.
	headSize = 4
	// step is how much room is made for what has been announced and is not there yet.
	step = 64 << 10
)

// frames are the messages of a connection. What they are kept in is used again.
type frames struct {
	w   io.Writer
	r   *bufio.Reader
	in  []byte
	out []byte
}

func newFrames(conn io.ReadWriter) frames {
	return frames{w: conn, r: bufio.NewReaderSize(conn, step/4)}
}

// write sends a message at once.
func (f *frames) write(m proto.Message) error {
	out, err := proto.MarshalOptions{}.MarshalAppend(append(f.out[:0], make([]byte, headSize)...), m)
	if err != nil {
		return err
	}
	if len(out)-headSize > maxFrame {
		return fmt.Errorf("a message of %d bytes is too long for a line", len(out)-headSize)
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)-headSize))
	f.out = spare(out)
	_, err = f.w.Write(out)
	return err
}

// read waits for a message. The error is io.EOF if there comes none any more.
func (f *frames) read(m proto.Message) error {
	head, err := f.r.Peek(headSize)
	if err != nil {
		return truncated(err, len(head) > 0)
	}
	announced := binary.BigEndian.Uint32(head)
	if announced > maxFrame {
		return fmt.Errorf("a message of %d bytes is announced; at most %d can be", announced, maxFrame)
	}
	size := int(announced)
	if _, err := f.r.Discard(headSize); err != nil {
		return err
	}
	in := f.in[:0]
	for len(in) < size {
		n := min(size-len(in), step)
		in = slices.Grow(in, n)
		if _, err := io.ReadFull(f.r, in[len(in):len(in)+n]); err != nil {
			return truncated(err, true)
		}
		in = in[:len(in)+n]
	}
	f.in = spare(in)
	return proto.Unmarshal(in, m)
}

func truncated(err error, begun bool) error {
	if begun && err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// spare is what is kept of a buffer: one large message must not hold its memory.
func spare(b []byte) []byte {
	if cap(b) > 2*step {
		return nil
	}
	return b
}
