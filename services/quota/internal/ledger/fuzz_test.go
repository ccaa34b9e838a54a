package ledger_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	quotav1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/quota/v1"
	"github.com/sallyport-mcp/sallyport/services/quota/internal/ledger"
)

func FuzzReadBatch(f *testing.F) {
	var entries []*quotav1.LedgerEntry
	for kind := range quotav1.LedgerKind_name {
		entries = append(entries, &quotav1.LedgerEntry{
			Kind: quotav1.LedgerKind(kind), Limit: 1, Hi: 2, Lo: 3, Period: 4, PeriodEnd: 5, Amount: 1 << 63, Released: 1 << 63, Credited: 7,
			IdHi: 1, IdLo: 2, Time: timestamppb.Now(), Expires: timestamppb.Now(), Attributes: []string{"user", "ann"},
		})
	}
	for i := range entries {
		data, err := proto.Marshal(&quotav1.LedgerBatch{Epoch: 1, Sequence: 1, Entries: entries[i:]})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(_ *testing.T, data []byte) { _ = ledger.ReadBatch(data) }) // must not panic
}

func FuzzReadPage(f *testing.F) {
	data, err := proto.Marshal(&quotav1.SnapshotPage{
		Applied: 1, Generation: 1,
		Balances: []*quotav1.SnapshotBalance{{Limit: 1, Hi: 2, Lo: 3, Spent: 5, Attributes: []string{"user", "ann"}}},
		Records: []*quotav1.SnapshotRecord{{
			IdHi: 1, IdLo: 3, Kind: quotav1.LedgerKind_LEDGER_KIND_RESERVE, Expires: 1,
			Holds: []*quotav1.SnapshotHold{{Limit: 1, Hi: 2, Lo: 3, Amount: 4}},
		}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(3, data)
	f.Fuzz(func(_ *testing.T, part int, data []byte) { _ = ledger.ReadPage(max(part, -part, 0), data) })
}
