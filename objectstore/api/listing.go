package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre/objectstore"
)

// objectsText is a listing of a container. Ten thousand lines are usual, so that the
// JSON, which clients ask for, is written by hand.
func (c *call) objectsText(f string, es []objectstore.ObjectEntry, versions bool) string {
	switch f {
	case "application/json":
		return objectsJSON(es, versions)
	case "application/xml", "text/xml":
		return objectsXML(c.ref.Container, es)
	}
	var b strings.Builder
	for i := range es {
		b.WriteString(es[i].Name)
		b.WriteByte('\n')
	}
	return b.String()
}

func objectsJSON(es []objectstore.ObjectEntry, versions bool) string {
	var b strings.Builder
	b.Grow(2 + 256*len(es))
	var line []byte
	for i := range es {
		line = append(line[:0], ',')
		if i == 0 {
			line[0] = '['
		}
		line = appendEntry(line, &es[i], versions)
		b.Write(line)
	}
	if len(es) == 0 {
		b.WriteByte('[')
	}
	b.WriteByte(']')
	return b.String()
}

func appendEntry(b []byte, e *objectstore.ObjectEntry, versions bool) []byte {
	if e.Subdir {
		return append(appendJSON(append(b, `{"subdir":`...), e.Name), '}')
	}
	b = appendJSON(append(b, `{"hash":`...), e.Etag)
	b = append(appendStamp(append(b, `,"last_modified":"`...), e.Modified), '"')
	b = strconv.AppendInt(append(b, `,"bytes":`...), e.Bytes, 10)
	b = appendJSON(append(b, `,"name":`...), e.Name)
	b = appendJSON(append(b, `,"content_type":`...), e.ContentType)
	if e.SLOEtag != "" {
		b = appendJSON(append(b, `,"slo_etag":`...), e.SLOEtag)
	}
	if e.Kind == objectstore.KindSymlink {
		b = appendJSON(append(b, `,"symlink_path":`...), "/v1/"+escapePath(e.Target))
	}
	if versions {
		b = appendJSON(append(b, `,"version_id":`...), e.Version)
		b = strconv.AppendBool(append(b, `,"is_latest":`...), e.Latest)
	}
	return append(b, '}')
}

// appendJSON appends a string. Few need more than quotes.
func appendJSON(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string always can be
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendStamp appends a time as listings show it, 2006-01-02T15:04:05.000000.
func appendStamp(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 1000 || year > 9999 {
		return t.AppendFormat(b, stampLayout)
	}
	hour, minute, sec := t.Clock()
	b = append(digits(b, year/100), byte('0'+year/10%10), byte('0'+year%10), '-')
	b = append(digits(b, int(month)), '-')
	b = append(digits(b, day), 'T')
	b = append(digits(b, hour), ':')
	b = append(digits(b, minute), ':')
	b = append(digits(b, sec), '.')
	micro := t.Nanosecond() / 1000
	return digits(digits(digits(b, micro/10000), micro/100%100), micro%100)
}

// digits appends two of them.
func digits(b []byte, n int) []byte { return append(b, byte('0'+n/10), byte('0'+n%10)) }

func objectsXML(container string, es []objectstore.ObjectEntry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<container name=\"%s\">", escapeXML(container))
	for _, e := range es {
		if e.Subdir {
			fmt.Fprintf(&b, "<subdir name=\"%s\"><name>%s</name></subdir>", escapeXML(e.Name), escapeXML(e.Name))
			continue
		}
		fmt.Fprintf(&b, "<object><name>%s</name><hash>%s</hash><bytes>%d</bytes><content_type>%s</content_type><last_modified>%s</last_modified></object>",
			escapeXML(e.Name), e.Etag, e.Bytes, escapeXML(e.ContentType), stamp(e.Modified))
	}
	b.WriteString("</container>")
	return b.String()
}
