package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strconv"
)

// An image is a bbolt file, read without trust. bbolt maps its file and believes every page: a torn one is a fault, a panic or an endless
// loop in our process. So a file is walked here first, with nothing but bounds-checked reads, and bbolt sees only what passed.
//
// The layout is that of bbolt's file format version 2, in the machine's own byte order.
type image struct {
	r        io.ReaderAt
	pageSize int
	pages    uint64 // the first page id that is not in use
	root     uint64 // the page of the root bucket
	seen     map[uint64]bool
}

const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHead  = 16 // id 8, flags 2, count 2, overflow 4
	elemHead  = 16 // of a leaf: flags, pos, ksize, vsize; of a branch: pos, ksize, page id 8
	inBucket  = 16 // root page 8, sequence 8; an inline bucket's page follows
	metaBytes = 64 // magic, version, page size, flags, root bucket 16, freelist, pages, txid, checksum: 8 each

	branchPage = 0x01
	leafPage   = 0x02
	bucketElem = 0x01
)

var order = binary.NativeEndian

// torn reports what is wrong with a file.
func torn(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// openImage reads the heads of f: bbolt keeps two, and goes by the newer one that is whole. The error is ErrDamaged or f's own.
func openImage(f *os.File) (*image, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	img, err := readImage(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return img, nil
}

func readImage(r io.ReaderAt, size int64) (*image, error) {
	first, txid := readMeta(r, 0)
	at := int64(os.Getpagesize())
	if first != nil {
		at = int64(first.pageSize)
	}
	if second, newer := readMeta(r, at); first == nil || second != nil && newer > txid {
		first = second
	}
	if first == nil {
		return nil, torn("neither head is whole")
	}
	if n := first.pages; n < 3 || n > uint64(size)/uint64(first.pageSize) {
		return nil, torn("%d pages of %d bytes in a file of %d", n, first.pageSize, size)
	}
	return first, nil
}

// readMeta reads one head; nil if it is not whole.
func readMeta(r io.ReaderAt, at int64) (*image, uint64) {
	b := make([]byte, pageHead+metaBytes)
	if _, err := r.ReadAt(b, at); err != nil {
		return nil, 0
	}
	m := b[pageHead:]
	sum := fnv.New64a()
	sum.Write(m[:metaBytes-8])
	if order.Uint32(m) != boltMagic || order.Uint32(m[4:]) != boltVersion || order.Uint64(m[56:]) != sum.Sum64() {
		return nil, 0
	}
	size := order.Uint32(m[8:])
	if size < 1<<10 || size > 1<<16 || size&(size-1) != 0 {
		return nil, 0
	}
	return &image{r: r, pageSize: int(size), root: order.Uint64(m[16:]), pages: order.Uint64(m[40:]), seen: map[uint64]bool{}},
		order.Uint64(m[48:])
}

// check walks every page that is in use.
func (img *image) check() error {
	clear(img.seen)
	return img.walk(img.root, func(key, value []byte, bucket bool) error {
		if !bucket {
			return torn("key %q stands beside the buckets", key)
		}
		return img.bucket(value, func(key, _ []byte, bucket bool) error {
			if bucket {
				return torn("bucket %q within a bucket", key)
			}
			return nil
		})
	})
}

// checkSchema reads the schema's version, and no more of the file than that takes.
func (img *image) checkSchema() error {
	version := ""
	err := img.elements(bucketRun, func(key, value []byte, _ bool) error {
		if bytes.Equal(key, keySchema) {
			version = string(value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(version)
	switch {
	case err != nil || n < 1:
		return torn("schema version %q", version)
	case n > schema:
		return fmt.Errorf("%w: it has schema %d, this program reads up to %d", ErrVersion, n, schema)
	}
	return nil
}

// lastEvent reads the events, and returns the last one.
func (img *image) lastEvent() (Event, error) {
	if err := img.checkSchema(); err != nil {
		return Event{}, err
	}
	var last []byte
	err := img.elements(bucketEvents, func(_, value []byte, _ bool) error {
		last = append(last[:0], value...)
		return nil
	})
	if err != nil {
		return Event{}, err
	}
	e, err := decodeEvent(last)
	if err != nil {
		return Event{}, torn("last event: %v", err)
	}
	return e, nil
}

// elements visits the elements of the bucket of this name.
func (img *image) elements(name []byte, fn visit) error {
	clear(img.seen)
	return img.walk(img.root, func(key, value []byte, bucket bool) error {
		if !bucket || !bytes.Equal(key, name) {
			return nil
		}
		return img.bucket(value, fn)
	})
}

// visit is called for each element of a bucket, in order. The slices are valid until it returns.
type visit func(key, value []byte, bucket bool) error

// bucket walks the bucket that value describes: by a page, or, if it is small, in the value itself.
func (img *image) bucket(value []byte, fn visit) error {
	if len(value) < inBucket {
		return torn("a bucket of %d bytes", len(value))
	}
	if root := order.Uint64(value); root != 0 {
		return img.walk(root, fn)
	}
	inline := value[inBucket:]
	if len(inline) < pageHead || order.Uint16(inline[8:]) != leafPage {
		return torn("an inline bucket without a leaf")
	}
	var last []byte
	return img.leaf(inline, &last, fn)
}

// walk visits the leaves below a page. No page may be met twice, so the walk ends.
func (img *image) walk(id uint64, fn visit) error {
	var last []byte
	return img.descend(id, &last, fn)
}

func (img *image) descend(id uint64, last *[]byte, fn visit) error {
	p, err := img.page(id)
	if err != nil {
		return err
	}
	switch flags := order.Uint16(p[8:]); flags {
	case leafPage:
		return img.leaf(p, last, fn)
	case branchPage:
		return img.branch(p, func(child uint64) error { return img.descend(child, last, fn) })
	default:
		return torn("page %d is of kind %#x", id, flags)
	}
}

// page reads a page with its overflow.
func (img *image) page(id uint64) ([]byte, error) {
	if id < 2 || id >= img.pages {
		return nil, torn("page %d of %d", id, img.pages)
	}
	head := make([]byte, pageHead)
	if err := img.read(head, id); err != nil {
		return nil, err
	}
	if got := order.Uint64(head); got != id {
		return nil, torn("page %d says it is %d", id, got)
	}
	more := uint64(order.Uint32(head[12:]))
	if more >= img.pages-id {
		return nil, torn("page %d goes on for %d pages of %d", id, more, img.pages)
	}
	for n := id; n <= id+more; n++ {
		if img.seen[n] {
			return nil, torn("page %d is used twice", n)
		}
		img.seen[n] = true
	}
	p := make([]byte, (1+int(more))*img.pageSize)
	return p, img.read(p, id)
}

func (img *image) read(b []byte, id uint64) error {
	if _, err := img.r.ReadAt(b, int64(id)*int64(img.pageSize)); err != nil {
		return torn("page %d: %v", id, err)
	}
	return nil
}

// leaf visits a page's elements, whose keys have to ascend from last on.
func (img *image) leaf(p []byte, last *[]byte, fn visit) error {
	for i := range int(order.Uint16(p[10:])) {
		at := pageHead + i*elemHead
		if at+elemHead > len(p) {
			return torn("element %d is outside its page", i)
		}
		e := p[at:]
		pos, ksize, vsize := uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		if ksize == 0 || pos+ksize+vsize > uint64(len(e)) {
			return torn("element %d reaches outside its page", i)
		}
		key, value := e[pos:pos+ksize], e[pos+ksize:pos+ksize+vsize]
		if bytes.Compare(key, *last) <= 0 {
			return torn("key %x does not ascend", key)
		}
		*last = bytes.Clone(key)
		if err := fn(key, value, order.Uint32(e)&bucketElem != 0); err != nil {
			return err
		}
	}
	return nil
}

// branch visits the pages below one.
func (img *image) branch(p []byte, fn func(child uint64) error) error {
	for i := range int(order.Uint16(p[10:])) {
		at := pageHead + i*elemHead
		if at+elemHead > len(p) {
			return torn("element %d is outside its page", i)
		}
		e := p[at:]
		if pos, ksize := uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])); pos+ksize > uint64(len(e)) {
			return torn("element %d reaches outside its page", i)
		}
		if err := fn(order.Uint64(e[8:])); err != nil {
			return err
		}
	}
	return nil
}
