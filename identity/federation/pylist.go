package federation

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Keystone passes several values through text, as Python writes a list of strings
// and reads it again. Mappings and assertions in use rely on both halves.

// pyList is Python's repr of a list of strings.
func pyList(vs []string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, v := range vs {
		if i > 0 {
			b.WriteString(", ")
		}
		quote := byte('\'')
		if strings.Contains(v, "'") && !strings.Contains(v, `"`) {
			quote = '"'
		}
		b.WriteByte(quote)
		for _, r := range v {
			switch {
			case r == rune(quote) || r == '\\':
				b.WriteByte('\\')
				b.WriteRune(r)
			case r == '\n':
				b.WriteString(`\n`)
			case r == '\r':
				b.WriteString(`\r`)
			case r == '\t':
				b.WriteString(`\t`)
			case r < ' ' || r == 0x7f:
				b.WriteString(`\x`)
				b.WriteString(strconv.FormatInt(int64(r)+0x100, 16)[1:])
			default:
				b.WriteRune(r)
			}
		}
		b.WriteByte(quote)
	}
	b.WriteByte(']')
	return b.String()
}

// pyStrings reads a Python list of strings; any other text is the only value.
func pyStrings(s string) []string {
	p := pyReader{s: strings.TrimSpace(s)}
	if list, ok := p.list(); ok && p.i == len(p.s) {
		return list
	}
	return []string{s}
}

type pyReader struct {
	s string
	i int
}

func (p *pyReader) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *pyReader) take(c byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *pyReader) list() ([]string, bool) {
	out := []string{}
	if !p.take('[') {
		return nil, false
	}
	for !p.take(']') {
		if len(out) > 0 && !p.take(',') {
			return nil, false
		}
		if p.take(']') {
			break // a trailing comma
		}
		p.space()
		v, ok := p.string()
		if !ok {
			return nil, false
		}
		out = append(out, v)
	}
	return out, true
}

func (p *pyReader) string() (string, bool) {
	if p.i < len(p.s) && (p.s[p.i] == 'u' || p.s[p.i] == 'U') {
		p.i++
	}
	if p.i >= len(p.s) || p.s[p.i] != '\'' && p.s[p.i] != '"' {
		return "", false
	}
	quote := p.s[p.i]
	p.i++
	var b strings.Builder
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == quote:
			p.i++
			return b.String(), true
		case c == '\n':
			return "", false
		case c != '\\':
			b.WriteByte(c)
			p.i++
		default:
			p.i++
			if !p.escape(&b) {
				return "", false
			}
		}
	}
	return "", false
}

// escape reads what follows a backslash.
func (p *pyReader) escape(b *strings.Builder) bool {
	if p.i >= len(p.s) {
		return false
	}
	c := p.s[p.i]
	p.i++
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	if digits > 0 {
		if p.i+digits > len(p.s) {
			return false
		}
		n, err := strconv.ParseUint(p.s[p.i:p.i+digits], 16, 32)
		if err != nil || !utf8.ValidRune(rune(n)) {
			return false
		}
		b.WriteRune(rune(n))
		p.i += digits
		return true
	}
	switch c {
	case 'n':
		b.WriteByte('\n')
	case 'r':
		b.WriteByte('\r')
	case 't':
		b.WriteByte('\t')
	case '\\', '\'', '"':
		b.WriteByte(c)
	default:
		b.WriteByte('\\')
		b.WriteByte(c)
	}
	return true
}
