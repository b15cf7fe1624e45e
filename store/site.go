package store

import (
	"fmt"
	"runtime"
	"strings"
)

// Site is where a transaction began, for the errors of those who wait for it.
// Taking one is cheap; it is put into words only by String.
type Site struct {
	pcs [8]uintptr
	n   int
}

// Here is for engines: the site of the code that called the engine's InTx.
func Here() Site {
	var s Site
	s.n = runtime.Callers(2, s.pcs[:])
	return s
}

// String is "file.go:12 (package.Function)": the first frame that belongs
// neither to the engine nor to this package.
func (s Site) String() string {
	if s.n == 0 {
		return "an unknown place"
	}
	frames := runtime.CallersFrames(s.pcs[:s.n])
	engine := ""
	for {
		f, more := frames.Next()
		pkg := packageOf(f.Function)
		if engine == "" {
			engine = pkg
		}
		if pkg != engine && pkg != "github.com/nacre-cloud/nacre/store" && !strings.HasSuffix(f.Function, ").InTx") || !more {
			return fmt.Sprintf("%s:%d (%s)", f.File[strings.LastIndexByte(f.File, '/')+1:], f.Line, f.Function[strings.LastIndexByte(f.Function, '/')+1:])
		}
	}
}

// packageOf cuts the import path out of a function's full name.
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	if dot := strings.IndexByte(function[slash:], '.'); dot >= 0 {
		return function[:slash+dot]
	}
	return function
}
