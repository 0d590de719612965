package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
)

// sliceBytes is how much of a number is read from PostgreSQL at a time.
const sliceBytes = 1 << 20

// Digits returns a reader of all digits of a done calculation, without leading zeros. Of a long number it reads a
// slice at a time, when it is needed, so that memory stays bounded and a part can be had without the rest. The
// context bounds its reads.
func (s *Store) Digits(ctx context.Context, c Calculation) io.ReadSeeker {
	if c.Value != nil {
		return strings.NewReader(*c.Value)
	}
	return &numberReader{store: s, ctx: ctx, index: c.Index, size: *c.Digits}
}

type numberReader struct {
	store  *Store
	ctx    context.Context //nolint:containedctx // io.Reader's Read has no place for it
	index  int64
	size   int64
	offset int64
	slice  bytes.Reader
}

func (r *numberReader) Read(p []byte) (int, error) {
	if r.offset >= r.size {
		return 0, io.EOF
	}
	if r.slice.Len() == 0 {
		var digits []byte
		err := r.store.db.GetContext(r.ctx, &digits,
			`SELECT substring(digits FROM $2 FOR $3) FROM numbers WHERE index = $1`, r.index, r.offset+1, sliceBytes)
		if err != nil {
			return 0, known(err)
		}
		if len(digits) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		r.slice.Reset(digits)
	}
	n, err := r.slice.Read(p)
	r.offset += int64(n)
	return n, err
}

func (r *numberReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the first digit")
	}
	r.offset = offset
	r.slice.Reset(nil)
	return offset, nil
}
