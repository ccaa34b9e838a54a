//go:build !linux

package sqlitedb

// spilled returns 0: how to find temporary files without names is known for
// Linux only. Elsewhere the time limit is what bounds them.
func spilled() int64 { return 0 }
