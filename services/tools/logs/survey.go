package logs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/sallyport-mcp/sallyport/pkg/fault"
	logsv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/logs/v1"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/folder"
	"github.com/sallyport-mcp/sallyport/services/tools/logs/internal/line"
)

// source is a file that is summarized.
type source struct {
	*folder.File

	// What the survey finds. First is the first time in the part that is read,
	// newest the latest; both mean nothing if no line is dated.
	dated         bool
	first, newest int64
	format        line.Format

	lines, unparsed int // counted
}

// sources are the files of one summary. Close them.
type sources struct {
	files   []*source
	skipped []folder.Skipped
	// limited says that there were too many files.
	limited bool
}

func (s *sources) close() {
	for _, f := range s.files {
		_ = f.Close() // it was only read
	}
}

// newest is the time of the newest line of all.
func (s *sources) newest() (ns int64, ok bool) {
	for _, f := range s.files {
		if f.dated && (!ok || f.newest > ns) {
			ns, ok = f.newest, true
		}
	}
	return ns, ok
}

// open opens the named file, or all that there are, and surveys them. In a
// summary of all, a file that cannot be read is left aside; asked for by name
// it is an error.
func (s *Service) open(ctx context.Context, name string) (*sources, error) {
	dir, err := folder.Open(s.cfg.Dir)
	if err != nil {
		return nil, unreadable("the folder of log files cannot be read").Because(err)
	}
	defer func() { _ = dir.Close() }() // it was only read
	listing, err := dir.List()
	if err != nil {
		return nil, unreadable("the folder of log files cannot be listed").Because(err)
	}
	out := &sources{limited: listing.Incomplete}
	files := folder.Newest(listing.Files, s.cfg.MaxFiles)
	if name == "" {
		out.limited = out.limited || len(files) < len(listing.Files)
		out.skipped = listing.Skipped
	} else {
		out.limited = false
		i := slices.IndexFunc(listing.Files, func(f folder.Info) bool { return f.Name == name })
		if i < 0 {
			return nil, unknown(name, listing)
		}
		files = listing.Files[i : i+1]
	}
	shares := folder.Share(files, s.cfg.MaxBytesPerFile, s.cfg.MaxTotalBytes)
	for i, info := range files {
		f, err := s.survey(ctx, dir, info, shares[i])
		switch {
		case err == nil:
			out.files = append(out.files, f)
		case ctx.Err() != nil:
			out.close()
			return nil, context.Cause(ctx)
		case name != "" && errors.Is(err, folder.ErrNotText):
			return nil, unreadable("%s is not a text file", name)
		case name != "":
			return nil, unreadable("%s cannot be read just now", name).Because(err)
		case errors.Is(err, folder.ErrNotText):
			out.skipped = append(out.skipped, folder.Skipped{Name: info.Name, Reason: "not text"})
		default:
			s.log.WarnContext(ctx, "log file left out", "file", info.Name, "error", err)
			out.skipped = append(out.skipped, folder.Skipped{Name: info.Name, Reason: "cannot be read"})
		}
	}
	return out, nil
}

// survey opens a file and reads it once, for what must be known before lines can
// be counted: "the last hour" is reckoned from the newest line of all.
func (s *Service) survey(ctx context.Context, dir *folder.Folder, info folder.Info, limit int64) (*source, error) {
	file, err := dir.Tail(info, limit)
	if err != nil {
		return nil, err
	}
	f := &source{File: file}
	var formats [line.Formats]int
	parser := line.NewParser(s.zone, info.Written)
	err = file.Lines(ctx, s.cfg.MaxLine, func(b []byte, cut bool) {
		e := parser.Parse(b, cut)
		if !e.Dated {
			return
		}
		formats[e.Format]++
		if !f.dated {
			f.dated, f.first, f.newest = true, e.Time, e.Time
		}
		f.newest = max(f.newest, e.Time)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("survey: %w", err), file.Close())
	}
	for format, n := range formats {
		if n > formats[f.format] {
			f.format = line.Format(format)
		}
	}
	return f, nil
}

func unreadable(format string, args ...any) *fault.Error {
	return fault.New(codes.FailedPrecondition, logsv1.Reason_REASON_UNREADABLE, format, args...)
}

// unknown says that there is no file of that name, and which there are.
func unknown(name string, listing folder.Listing) error {
	const most = 20
	for _, sk := range listing.Skipped {
		if sk.Name == name {
			return fault.New(codes.NotFound, logsv1.Reason_REASON_SOURCE_UNKNOWN, "%s is not read: %s", name, sk.Reason)
		}
	}
	if len(listing.Files) == 0 {
		return fault.New(codes.NotFound, logsv1.Reason_REASON_SOURCE_UNKNOWN, "there are no log files at all")
	}
	var names []string
	for _, f := range listing.Files[:min(len(listing.Files), most)] {
		names = append(names, f.Name)
	}
	more := ""
	if n := len(listing.Files) - len(names); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fault.New(codes.NotFound, logsv1.Reason_REASON_SOURCE_UNKNOWN,
		"there is no log file %s; there are: %s%s", name, strings.Join(names, ", "), more)
}
