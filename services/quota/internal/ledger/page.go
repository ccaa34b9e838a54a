package ledger

import (
	"container/heap"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
)

// pages are what a part holds. It needs the book's lock.
func (s *state) pages(part int) []*quotav1.SnapshotPage {
	var all []*quotav1.SnapshotPage
	m, size := new(quotav1.SnapshotPage), 0
	turn := func(bytes int) {
		if size += bytes; size > pageBytes || len(m.GetBalances()) == pageItems || len(m.GetRecords()) == pageItems {
			all = append(all, m)
			m, size = new(quotav1.SnapshotPage), bytes
		}
	}
	p := &s.parts[part]
	for a, b := range p.balances {
		bytes := 72
		for _, text := range b.attributes {
			bytes += len(text) + 3
		}
		turn(bytes)
		m.Balances = append(m.Balances, &quotav1.SnapshotBalance{
			Limit: a.limit, Hi: a.key.Hi, Lo: a.key.Lo, Period: a.start, PeriodEnd: b.end,
			Spent: b.spent, Reserved: b.reserved, Most: b.most, Attributes: b.attributes,
		})
	}
	for id, r := range p.records {
		turn(64 + 64*len(r.holds))
		n := &quotav1.SnapshotRecord{
			IdHi: id.Hi, IdLo: id.Lo, Kind: r.kind, Expires: r.expires, Forget: r.forget, Amount: r.amount, Overdraft: r.overdraft,
		}
		for _, h := range r.holds {
			n.Holds = append(n.Holds, &quotav1.SnapshotHold{
				Limit: h.limit, Hi: h.key.Hi, Lo: h.key.Lo, Period: h.start, PeriodEnd: h.end,
				Amount: h.amount, Charged: h.charged, FreeExpiry: h.free, Most: h.most,
			})
		}
		m.Records = append(m.Records, n)
	}
	return append(all, m)
}

// readPage reads a page.
func readPage(data []byte) (*quotav1.SnapshotPage, error) {
	m := new(quotav1.SnapshotPage)
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, errors.New("a page cannot be read")
	}
	for _, b := range m.GetBalances() {
		if err := readAttributes(b.GetAttributes()); err != nil {
			return nil, fmt.Errorf("a page has %w", err)
		}
	}
	for _, r := range m.GetRecords() {
		if _, known := quotav1.LedgerKind_name[int32(r.GetKind())]; !known || r.GetKind() == 0 {
			return nil, fmt.Errorf("a page has an id of the unknown kind %d: was it written by a later version?", r.GetKind())
		}
	}
	return m, nil
}

// restore fills an empty part.
func (s *state) restore(part int, from *snapshot) error {
	for _, m := range from.pages {
		if err := s.addPage(part, m); err != nil {
			return err
		}
	}
	s.parts[part].floor, s.parts[part].changed = from.applied, from.applied
	return nil
}

// addPage puts a page into a part.
func (s *state) addPage(part int, m *quotav1.SnapshotPage) error {
	p := &s.parts[part]
	for _, b := range m.GetBalances() {
		a := account{b.GetLimit(), ID{b.GetHi(), b.GetLo()}, b.GetPeriod()}
		if s.part(a.key) != p {
			return errors.New("a page has a key of another part")
		}
		if p.balances[a] == nil {
			s.balances++
		}
		p.balances[a] = &balance{
			end: b.GetPeriodEnd(), spent: b.GetSpent(), reserved: b.GetReserved(), most: b.GetMost(), attributes: b.GetAttributes(),
		}
	}
	for _, n := range m.GetRecords() {
		id := ID{n.GetIdHi(), n.GetIdLo()}
		if s.part(id) != p {
			return errors.New("a page has an id of another part")
		}
		r := &record{kind: n.GetKind(), expires: n.GetExpires(), forget: n.GetForget(), amount: n.GetAmount(), overdraft: n.GetOverdraft()}
		for _, h := range n.GetHolds() {
			r.holds = append(r.holds, hold{
				account: account{h.GetLimit(), ID{h.GetHi(), h.GetLo()}, h.GetPeriod()}, end: h.GetPeriodEnd(),
				amount: h.GetAmount(), charged: h.GetCharged(), free: h.GetFreeExpiry(), most: h.GetMost(),
			})
		}
		if p.records[id] == nil {
			s.records++
		}
		p.records[id] = r
		if r.kind == quotav1.LedgerKind_LEDGER_KIND_RESERVE {
			heap.Push(&s.expiries, expiry{r.expires, id})
		}
	}
	return nil
}
