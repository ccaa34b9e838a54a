package folder

import (
	"cmp"
	"slices"
)

// Newest returns the n files that were written to last, by name.
func Newest(files []Info, n int) []Info {
	if len(files) <= n {
		return files
	}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b Info) int {
		return cmp.Or(b.Written.Compare(a.Written), cmp.Compare(a.Name, b.Name))
	})
	files = files[:n]
	slices.SortFunc(files, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return files
}

// Share divides total bytes between files so that none gets more than each
// bytes, nor more than its size: small files are read whole, and what they
// leave goes to the large ones in equal parts.
func Share(files []Info, each, total int64) []int64 {
	shares := make([]int64, len(files))
	bySize := make([]int, len(files))
	for i := range bySize {
		bySize[i] = i
	}
	slices.SortStableFunc(bySize, func(a, b int) int { return cmp.Compare(files[a].Size, files[b].Size) })
	for done, i := range bySize {
		fair := total / int64(len(files)-done)
		shares[i] = min(files[i].Size, each, fair)
		total -= shares[i]
	}
	return shares
}
