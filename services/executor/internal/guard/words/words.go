// Package words finds many keywords in a text in one pass, whatever their case
// (Aho and Corasick's automaton). It is our own for that: the libraries there are want
// a copy of the text in lower case.
package words

import (
	"maps"
	"slices"
)

// Words are keywords. Nothing in it changes.
type Words struct {
	class  [256]uint8 // letters of the same class lead the same way
	width  int        // how many classes there are
	next   []uint16   // state*width + class to state
	output [][]ending // of states
}

// ending is a keyword that ends in a state.
type ending struct {
	size int
	ids  []int
}

// New takes keywords in lower-case ASCII, each with what it stands for. Together they
// must be shorter than 64 KiB.
func New(all map[string][]int) *Words {
	w := &Words{width: 1}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		for i := range len(k) {
			if w.class[k[i]] == 0 {
				w.class[k[i]] = uint8(w.width)
				w.width++
			}
		}
	}
	for c := byte('a'); c <= 'z'; c++ {
		w.class[c-'a'+'A'] = w.class[c]
	}
	w.grow()
	for _, k := range slices.Sorted(maps.Keys(all)) {
		state := 0
		for i := range len(k) {
			at := state*w.width + int(w.class[k[i]])
			if w.next[at] == 0 {
				w.next[at] = uint16(w.grow())
			}
			state = int(w.next[at])
		}
		w.output[state] = append(w.output[state], ending{len(k), all[k]})
	}
	w.link()
	return w
}

func (w *Words) grow() int {
	w.next = append(w.next, make([]uint16, w.width)...)
	w.output = append(w.output, nil)
	return len(w.output) - 1
}

// link leads each state on where its keywords end: to the longest other beginning.
func (w *Words) link() {
	fail := make([]uint16, len(w.output))
	var queue []uint16
	for c := range w.width {
		if s := w.next[c]; s != 0 {
			queue = append(queue, s)
		}
	}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		w.output[state] = append(w.output[state], w.output[fail[state]]...)
		for c := range w.width {
			at, other := int(state)*w.width+c, w.next[int(fail[state])*w.width+c]
			if s := w.next[at]; s != 0 {
				fail[s] = other
				queue = append(queue, s)
			} else {
				w.next[at] = other
			}
		}
	}
}

// Each calls do for what each keyword in a text stands for, with where it stands,
// until it returns false.
func (w *Words) Each(text string, do func(id, start, end int) bool) {
	state := 0
	for i := range len(text) {
		state = int(w.next[state*w.width+int(w.class[text[i]])])
		for _, out := range w.output[state] {
			for _, id := range out.ids {
				if !do(id, i+1-out.size, i+1) {
					return
				}
			}
		}
	}
}

// Any reports whether there is a keyword in a text.
func (w *Words) Any(text string) (found bool) {
	w.Each(text, func(int, int, int) bool {
		found = true
		return false
	})
	return found
}
