package trace

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Options are how a trace is read. The zero Options are fine.
type Options struct {
	// Format is one of Formats; empty means Auto.
	Format string
	// Columns are for CSV and JSONL; nil means the names of our own format.
	Columns Columns
	// Sort sorts by time what is not; otherwise it is refused.
	Sort bool
	// PrefixCache gives the prompts of Mooncake the tokens that a cache without end would have read, from their hashes of 512
	// tokens each.
	PrefixCache bool
}

// Read reads a trace. The name is for messages. An error is a *RowError where it is about a row.
func Read(name string, from io.Reader, opt Options) (*Trace, error) {
	in := bufio.NewReaderSize(from, 1<<16)
	if bom, _ := in.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = in.Discard(3)
	}
	head, _ := in.Peek(4)
	for magic, what := range encodings {
		if bytes.HasPrefix(head, []byte(magic)) {
			return nil, &RowError{File: name, Row: 1, Text: "is " + what, Fix: "write it to another file as plain UTF-8, or into a pipe, and read that (- is stdin)"}
		}
	}
	format := opt.Format
	if format == "" {
		format = Auto
	}
	if !slices.Contains(Formats(), format) {
		return nil, fmt.Errorf("trace: there is no format %q: use one of %s", format, strings.Join(Formats(), ", "))
	}
	if format == Auto {
		var err error
		if format, err = detect(name, in, opt.Columns != nil); err != nil {
			return nil, err
		}
	}
	if format == OTel {
		opt.Sort = true // spans are written when they end
	}
	t := &Trace{Name: name, Format: format, unordered: opt.Sort}
	m := &maker{file: name, columns: opt.Columns, relative: format == Flyball}
	if c := known[format]; c != nil {
		if opt.Columns != nil {
			return nil, fmt.Errorf("trace: columns are given, but the columns of format %q are known: leave them out, or set the format to csv or jsonl", format)
		}
		m.columns = c
	} else if m.columns == nil {
		m.columns = known[Flyball]
	}
	var err error
	switch format {
	case Azure, BurstGPT, CSV:
		err = t.readCSV(in, m, required(format))
	default:
		err = t.readJSON(in, m, required(format), format == Mooncake && opt.PrefixCache)
	}
	if err != nil {
		return nil, err
	}
	t.spans = nil // a replay of hours does not keep them
	if len(t.Rows) == 0 && format == OTel {
		return nil, noSpans(name)
	}
	if t.twice > 0 {
		t.Notes = append(t.Notes, fmt.Sprintf("%d spans were there before, as an exporter that tries again delivers them; each counts once", t.twice))
	}
	if len(t.Rows) == 0 {
		return nil, &RowError{File: name, Row: 1, Text: "has no request", Fix: "give a trace with at least one row"}
	}
	if opt.Sort {
		t.sort()
	}
	if format == Mooncake {
		t.spread()
	}
	return t, nil
}

// encodings are what files begin with that are no plain text.
var encodings = map[string]string{
	"\x1f\x8b": "compressed with gzip", "\x28\xb5\x2f\xfd": "compressed with zstd", "\xff\xfe": "UTF-16, as PowerShell writes it", "\xfe\xff": "UTF-16",
}

// detect tells a format by the first line.
func detect(name string, in *bufio.Reader, columns bool) (string, error) {
	head, err := in.Peek(1 << 14)
	if len(bytes.TrimSpace(head)) == 0 {
		if err != nil && err != io.EOF {
			return "", fmt.Errorf("trace: %s cannot be read: %w", name, err)
		}
		return "", &RowError{File: name, Row: 1, Text: "is empty", Fix: "give a trace with at least one row"}
	}
	line := string(bytes.TrimSpace(head))
	line, _, _ = strings.Cut(line, "\n")
	if strings.HasPrefix(line, "{") {
		switch {
		case columns:
			return JSONL, nil
		case strings.Contains(line, `"input_length"`) && strings.Contains(line, `"timestamp"`):
			return Mooncake, nil
		case strings.Contains(line, `"resourceSpans"`):
			return OTel, nil
		}
		return Flyball, nil
	}
	switch {
	case columns:
		return CSV, nil
	case strings.Contains(line, "ContextTokens"):
		return Azure, nil
	case strings.Contains(line, "Request tokens"):
		return BurstGPT, nil
	}
	return CSV, nil
}

// add keeps a row, when it comes after the one before or will be sorted.
func (t *Trace) add(m *maker, n int, r Row, last *int) error {
	if len(t.Rows) >= maxRows {
		return &RowError{File: t.Name, Row: n, Text: fmt.Sprintf("is request %d, and a trace has at most %d", len(t.Rows)+1, maxRows), Fix: "split the file"}
	}
	if k := len(t.Rows); k > 0 && r.At < t.Rows[k-1].At && last != nil {
		return &RowError{
			File: t.Name, Row: n, Column: m.columns["t"].Name,
			Text: fmt.Sprintf("is %v before that of row %d", t.Rows[k-1].At-r.At, *last),
			Fix:  "sort the file by time, or read it with --sort",
		}
	}
	if last != nil {
		*last = n
	}
	t.Rows = append(t.Rows, r)
	return nil
}

func (t *Trace) readCSV(in io.Reader, m *maker, need []string) error {
	r := csv.NewReader(in)
	r.FieldsPerRecord = -1
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		return t.csvError(err)
	}
	var again []string // the first line, when it is no header
	if m.columns.numbered() {
		again = slices.Clone(header)
		for i := range header {
			header[i] = "#" + strconv.Itoa(i+1)
		}
	}
	index := make(map[string]int, len(header))
	for i, h := range header {
		h = strings.TrimSpace(h)
		if _, twice := index[h]; twice && h != "" {
			return &RowError{File: t.Name, Row: 1, Column: h, Text: "is the name of two columns", Fix: "rename one of them"}
		}
		index[h] = i
	}
	names := slices.Clone(header)
	for field, c := range m.columns {
		if _, ok := index[c.Name]; !ok && (slices.Contains(need, field) || t.Format == CSV && given(m.columns)) {
			return missing(t.Name, field, c.Name, names)
		}
	}
	var last int
	for {
		record, n := again, 1
		if again == nil {
			if record, err = r.Read(); err == io.EOF {
				return nil
			} else if err != nil {
				return t.csvError(err)
			}
			n, _ = r.FieldPos(0)
		}
		again = nil
		if len(record) == 1 && strings.TrimSpace(record[0]) == "" {
			continue
		}
		if len(record) < len(names) {
			return &RowError{File: t.Name, Row: n, Text: fmt.Sprintf("has %d cells, the header names %d", len(record), len(names)), Fix: "the file may be cut off; complete or remove the row"}
		}
		if err := t.complete(n, need, m, record, index); err != nil {
			return err
		}
		row, err := m.row(n, func(column string) (string, bool) {
			i, ok := index[column]
			if !ok || i >= len(record) {
				return "", false
			}
			return record[i], true
		})
		if err == nil {
			row.Key, row.Tenant = strings.Clone(row.Key), strings.Clone(row.Tenant)
			err = t.add(m, n, row, t.order(&last))
		}
		if err != nil {
			return err
		}
	}
}

// given reports whether columns are the user's own, all of which must be there.
func given(c Columns) bool { return len(c) != len(known[Flyball]) || c["t"] != known[Flyball]["t"] }

// complete refuses an empty cell of a column that the format has in every row.
func (t *Trace) complete(n int, need []string, m *maker, record []string, index map[string]int) error {
	for _, field := range need {
		c := m.columns[field].Name
		if strings.TrimSpace(record[index[c]]) == "" {
			return &RowError{File: t.Name, Row: n, Column: c, Text: "is empty", Fix: "complete or remove the row"}
		}
	}
	return nil
}

// order returns where the row before is kept, or nil when order does not matter.
func (t *Trace) order(last *int) *int {
	if t.unordered {
		return nil
	}
	return last
}

func missing(file, field, column string, has []string) error {
	for i := range has {
		has[i] = fmt.Sprintf("%q", strings.TrimSpace(has[i]))
	}
	if len(has) > 20 {
		has = append(has[:20:20], "…")
	}
	return &RowError{
		File: file, Row: 1, Text: fmt.Sprintf("has no column %q for %s, only %s", column, field, strings.Join(has, ", ")),
		Fix: fmt.Sprintf("name it with --columns, such as --columns t=%s,in=…,out=…", strings.Trim(has[0], `"`)),
	}
}

func (t *Trace) csvError(err error) error {
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		return &RowError{File: t.Name, Row: pe.Line, Text: "is no CSV: " + pe.Err.Error(), Fix: "correct the quotes in or before this line"}
	}
	if err == io.EOF {
		return &RowError{File: t.Name, Row: 1, Text: "is empty", Fix: "give a trace with a header and at least one row"}
	}
	return fmt.Errorf("trace: %s cannot be read: %w", t.Name, err)
}

func (t *Trace) readJSON(in *bufio.Reader, m *maker, need []string, prefixes bool) error {
	var last int
	seen := map[int64]struct{}{}
	most, fix := maxLine, "one request is one line"
	if t.Format == OTel {
		most, fix = maxBatch, "set send_batch_max_size of the collector's batch processor"
	}
	for n := 1; ; n++ {
		line, err := readLine(in, most)
		if err != nil && err != io.EOF {
			if errors.Is(err, errLong) {
				return &RowError{File: t.Name, Row: n, Text: fmt.Sprintf("is longer than %d bytes", most), Fix: fix}
			}
			return fmt.Errorf("trace: %s cannot be read: %w", t.Name, err)
		}
		end := err == io.EOF
		if len(bytes.TrimSpace(line)) > 0 {
			read := func() error { return t.line(m, n, line, need, prefixes, seen, &last) }
			if t.Format == OTel {
				read = func() error { return t.otel(m, n, line) }
			}
			if err := read(); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

func (t *Trace) line(m *maker, n int, line []byte, need []string, prefixes bool, seen map[int64]struct{}, last *int) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil {
		return &RowError{File: t.Name, Row: n, Text: "is no JSON object: " + err.Error(), Fix: "one request is one line; the file may be cut off"}
	}
	for _, field := range need {
		if _, ok := object[m.columns[field].Name]; !ok {
			return &RowError{File: t.Name, Row: n, Column: m.columns[field].Name, Text: "is missing", Fix: "complete or remove the line, or name another column with --columns"}
		}
	}
	row, err := m.row(n, func(column string) (string, bool) {
		raw, ok := object[column]
		if !ok || string(raw) == "null" {
			return "", false
		}
		var s string
		if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
			return s, true
		}
		return string(raw), true
	})
	if err != nil {
		return err
	}
	if raw, ok := object["hdr"]; ok && t.Format == Flyball {
		if err := json.Unmarshal(raw, &row.Header); err != nil {
			return &RowError{File: t.Name, Row: n, Column: "hdr", Text: "is no object of strings", Fix: `write {"x-ratelimit-limit-requests":"60"}`}
		}
	}
	if prefixes {
		row.Cached = min(row.In, 512*reused(object["hash_ids"], seen))
	}
	return t.add(m, n, row, t.order(last))
}

// reused returns how many blocks at the start of a prompt were in one before.
func reused(raw json.RawMessage, seen map[int64]struct{}) (n int64) {
	var ids []int64
	if json.Unmarshal(raw, &ids) != nil {
		return 0
	}
	hit := true
	for _, id := range ids {
		if _, ok := seen[id]; ok && hit {
			n++
		} else {
			hit = false
		}
		seen[id] = struct{}{}
	}
	return n
}

var errLong = errors.New("line too long")

// readLine returns the next line, of at most so many bytes, without its end; the last one comes with io.EOF.
func readLine(in *bufio.Reader, most int) ([]byte, error) {
	var long []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(long)+len(part) > most {
			return nil, errLong
		}
		switch {
		case err == nil && long == nil:
			return part, nil
		case err == bufio.ErrBufferFull:
			long = append(long, part...)
			continue
		}
		return append(long, part...), err
	}
}

// sort sorts by time, and makes the first request come at 0 unless the trace counted so before.
func (t *Trace) sort() {
	slices.SortStableFunc(t.Rows, func(a, b Row) int { return cmp.Compare(a.At, b.At) })
	if first := t.Rows[0].At; first < 0 {
		for i := range t.Rows {
			t.Rows[i].shift(-first)
		}
	}
}
