package control

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	wordMin  = 3 // shorter texts take no more room where they stand
	wordMax  = 60
	wordsMax = 1 << 16
	wordSeen = 1 << 16 // places
)

// packer writes values that nothing more becomes of in a sixth of the memory that they take as structs: a hundred thousand of each are at hand, and of
// them a few dozen are looked at in a page. It knows every exported field by its type, so that one that is added is packed as well. It panics at a type
// that it does not know (a function, a channel, an interface), which a test has seen that no kept value holds. Methods may be called at the same time.
type packer struct {
	mu    sync.RWMutex // guards the fields below, but not the words that are there: they stay as they are
	words []string     // texts that came more than once, as names of hosts and kinds do
	known map[string]int
	seen  []uint64 // hashes of texts that came once, at a place of many: one that never comes again must not become a word
	seed  maphash.Seed
	room  []byte // what is being written

	zoneless bool // planted bug: a time is packed without its zone
}

func newPacker() *packer {
	return &packer{known: map[string]int{}, seed: maphash.MakeSeed()}
}

// pack writes a value.
func pack[T any](p *packer, value T) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room = p.append(p.room[:0], reflect.ValueOf(&value).Elem())
	return string(p.room)
}

// unpack reads what the same packer has written. Of a time it is without what a clock of this process knows beyond it, as from the disk.
func unpack[T any](p *packer, text string) (value T) {
	p.mu.RLock()
	r := unpacker{text: text, words: p.words}
	p.mu.RUnlock()
	r.value(reflect.ValueOf(&value).Elem())
	return value
}

var timeType = reflect.TypeFor[time.Time]()

func (p *packer) append(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(b, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint())
	case reflect.Float32, reflect.Float64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float()))
	case reflect.String:
		return p.appendText(b, v.String())
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0)
		}
		return p.append(append(b, 1), v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			return append(b, 0)
		}
		b = binary.AppendUvarint(b, uint64(v.Len())+1)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append(b, v.Bytes()...)
		}
		for i := range v.Len() {
			b = p.append(b, v.Index(i))
		}
		return b
	case reflect.Map:
		if v.IsNil() {
			return append(b, 0)
		}
		b = binary.AppendUvarint(b, uint64(v.Len())+1)
		for each := v.MapRange(); each.Next(); {
			b = p.append(p.append(b, each.Key()), each.Value())
		}
		return b
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			return p.appendTime(b, at)
		}
		for i := range v.NumField() {
			b = p.append(b, v.Field(i))
		}
		return b
	}
	panic(fmt.Sprintf("fleet: a %s cannot be packed", v.Type()))
}

func (p *packer) appendTime(b []byte, at time.Time) []byte {
	_, offset := at.Zone()
	if p.zoneless {
		offset = 0
	}
	return binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(b, at.Unix()), int64(at.Nanosecond())), int64(offset))
}

// appendText writes a text: 0 and the bytes of a UUID; or an odd number, twice that of a word and one; or an even number, twice its length and two, and
// the text.
func (p *packer) appendText(b []byte, text string) []byte {
	if len(text) == len(uuid.UUID{}.String()) {
		if id, err := uuid.Parse(text); err == nil && id.String() == text {
			return append(append(b, 0), id[:]...)
		}
	}
	if word, ok := p.word(text); ok {
		return binary.AppendUvarint(b, uint64(word)<<1|1)
	}
	return append(binary.AppendUvarint(b, uint64(len(text)+1)<<1), text...)
}

// word is the number of a text that has come before. The lock is held.
func (p *packer) word(text string) (number int, ok bool) {
	if len(text) < wordMin || len(text) > wordMax {
		return 0, false
	}
	if number, ok := p.known[text]; ok || len(p.words) == wordsMax {
		return number, ok
	}
	if p.seen == nil {
		p.seen = make([]uint64, wordSeen)
	}
	hash := maphash.String(p.seed, text)
	if place := &p.seen[hash%wordSeen]; *place != hash {
		*place = hash
		return 0, false
	}
	text = strings.Clone(text) // it may be a part of something large
	p.words, p.known[text] = append(p.words, text), len(p.words)
	return p.known[text], true
}

// unpacker reads what a packer of the same process has written, so all of it is there.
type unpacker struct {
	text  string // what is left
	words []string
}

func (r *unpacker) value(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.bytes(1) == "\x01")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(r.int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.uint())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(math.Float64frombits(binary.LittleEndian.Uint64([]byte(r.bytes(8)))))
	case reflect.String:
		v.SetString(r.string())
	case reflect.Pointer:
		if r.bytes(1) == "\x01" {
			v.Set(reflect.New(v.Type().Elem()))
			r.value(v.Elem())
		}
	case reflect.Slice:
		count := int(r.uint()) - 1
		switch {
		case count < 0:
		case v.Type().Elem().Kind() == reflect.Uint8:
			v.SetBytes([]byte(r.bytes(count)))
		default:
			v.Set(reflect.MakeSlice(v.Type(), count, count))
			for i := range count {
				r.value(v.Index(i))
			}
		}
	case reflect.Map:
		count := int(r.uint()) - 1
		if count < 0 {
			return
		}
		v.Set(reflect.MakeMapWithSize(v.Type(), count))
		for range count {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			r.value(key)
			r.value(value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		if v.Type() == timeType {
			*v.Addr().Interface().(*time.Time) = r.time()
			return
		}
		for i := range v.NumField() {
			r.value(v.Field(i))
		}
	}
}

// time reads a time, in UTC, in the zone of this machine or in one without a name, as it is when it is read from JSON.
func (r *unpacker) time() time.Time {
	at := time.Unix(r.int(), r.int())
	offset := int(r.int())
	if offset == 0 {
		return at.UTC()
	}
	if _, local := at.Zone(); local == offset {
		return at
	}
	return at.In(time.FixedZone("", offset))
}

func (r *unpacker) string() string {
	switch head := r.uint(); {
	case head == 0:
		return uuid.UUID([]byte(r.bytes(len(uuid.UUID{})))).String()
	case head&1 == 1:
		return r.words[head>>1]
	default:
		return r.bytes(int(head>>1) - 1)
	}
}

func (r *unpacker) bytes(count int) string {
	bytes := r.text[:count]
	r.text = r.text[count:]
	return bytes
}

func (r *unpacker) uint() (n uint64) {
	for shift := 0; ; shift += 7 {
		b := r.bytes(1)[0]
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
}

func (r *unpacker) int() int64 {
	n := r.uint()
	return int64(n>>1) ^ -int64(n&1)
}
