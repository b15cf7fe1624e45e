package nacre_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// These tests hold the repository to its own shape: which package may import
// which, what each must say of itself, and what may be seen from outside.

const module = "github.com/nacre-cloud/nacre"

// pkg is what go list says of a package.
type pkg struct {
	ImportPath, Dir, Name, Doc string
	GoFiles, CgoFiles          []string
	Imports, Deps              []string
}

// rel is the path within the module: "" for the root.
func (p *pkg) rel() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

var packages = sync.OnceValues(func() ([]*pkg, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Doc,GoFiles,CgoFiles,Imports,Deps", "./...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, stderr.String())
	}
	var ps []*pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &pkg{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return ps, nil
		} else if err != nil {
			return nil, err
		}
		if len(p.GoFiles)+len(p.CgoFiles) > 0 {
			ps = append(ps, p)
		}
	}
})

func list(t *testing.T) []*pkg {
	ps, err := packages()
	require.NoError(t, err)
	return ps
}

// under reports whether a path is a package or lies below it.
func under(path string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return path == d || strings.HasPrefix(path, d+"/") })
}

var (
	areas = []string{"identity", "image", "compute", "network", "objectstore"}
	// contracts are what an area, its agents and drivers share.
	contracts = []string{"compute/hypervisor", "network/dataplane", "image/backend", "objectstore/blob"}
	// parts are an area's own: sub-areas and helpers without HTTP or hardware.
	subareas = map[string][]string{"compute": {"compute/placement", "compute/scheduler", "compute/metadata"}, "image": {"image/metadefs"}, "network": {"network/ipam"}, "identity": {"identity/kit", "identity/catalog", "identity/limit", "identity/appcred", "identity/password", "identity/revoke", "identity/assignment", "identity/credential", "identity/domainconfig", "identity/federation", "identity/oauth1", "identity/fernet", "identity/passhash", "identity/awssign"}}
	heavy    = []string{"github.com/uptrace/bun", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/ThreeDotsLabs/watermill", "libvirt.org", "github.com/vishvananda",
		"github.com/google/nftables", "github.com/gophercloud", "github.com/prometheus"}
)

func isSubarea(rel string) bool {
	return slices.ContainsFunc(areas, func(a string) bool { return slices.Contains(subareas[a], rel) })
}

// layer is where a package stands in the house: imports go to lower ones only.
func layer(rel string) (string, int) {
	switch {
	case rel == "":
		return "vocabulary", 0
	case under(rel, "store", "bus", "internal"):
		return "kits", 1
	case slices.Contains(contracts, rel):
		return "contracts", 2
	case slices.Contains(areas, rel), isSubarea(rel):
		return "areas", 3
	case under(rel, areas...):
		return "adapters", 4
	case under(rel, "servers/kit", "servers/conformance"):
		return "kits of servers", 4
	default:
		return "composition", 5
	}
}

func TestArrowsPointDown(t *testing.T) {
	for _, p := range list(t) {
		name, at := layer(p.rel())
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			rel := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
			what, to := layer(rel)
			require.LessOrEqual(t, to, at, "%s (%s) imports %s (%s): arrows point down", p.ImportPath, name, imp, what)
		}
	}
}

// rules are the arrows that layers don't tell.
var rules = []struct {
	name   string
	holds  func(rel string) bool
	refuse func(rel, imp string) bool
	deep   bool // look at all dependencies, not only at direct imports
	reason string
}{
	{
		name: "the root is plain", holds: func(r string) bool { return r == "" },
		refuse: func(_, imp string) bool { return strings.Contains(strings.Split(imp, "/")[0], ".") }, deep: true,
		reason: "drivers, engines and products take the vocabulary without anything else",
	},
	{
		name: "areas are apart", holds: func(r string) bool { return under(r, areas...) },
		refuse: func(r, imp string) bool {
			own := strings.Split(r, "/")[0]
			return slices.ContainsFunc(areas, func(a string) bool { return a != own && under(imp, module+"/"+a) })
		},
		reason: "each area can replace its original, or be replaced, alone",
	},
	{
		name: "areas know no machinery", holds: func(r string) bool {
			return slices.Contains(areas, r) || isSubarea(r) && r != "compute/metadata"
		},
		refuse: func(_, imp string) bool { return under(imp, heavy...) || imp == "net/http" },
		reason: "what OpenStack decides is apart from how it is kept, told and served",
	},
	{
		name: "contracts are small", holds: func(r string) bool { return slices.Contains(contracts, r) },
		refuse: func(r, imp string) bool {
			return strings.HasPrefix(imp, module) && imp != module && imp != module+"/"+r || !strings.HasPrefix(imp, module) && strings.Contains(strings.Split(imp, "/")[0], ".")
		}, deep: true,
		reason: "a driver of somebody else's takes the contract and the vocabulary only",
	},
	{
		name: "sub-areas don't know their parent", holds: isSubarea,
		refuse: func(r, imp string) bool { return imp == module+"/"+strings.Split(r, "/")[0] }, deep: true,
		reason: "a sub-area has its own service, tables and policy",
	},
	{
		name: "agents don't know their area", holds: func(r string) bool { return r == "compute/agent" || r == "network/agent" },
		refuse: func(r, imp string) bool {
			return imp == module+"/"+strings.Split(r, "/")[0] || under(imp, module+"/store")
		}, deep: true,
		reason: "an agent never touches a database",
	},
	{
		name: "drivers know neither area nor agent", holds: func(r string) bool { return under(r, contracts...) },
		refuse: func(r, imp string) bool {
			own := module + "/" + strings.Split(r, "/")[0]
			return imp == own || imp == own+"/agent" || under(imp, module+"/store")
		}, deep: true,
		reason: "a driver speaks its contract",
	},
	{
		name: "the store's kit has no engine", holds: func(r string) bool { return r == "store" || r == "bus" },
		refuse: func(r, imp string) bool {
			return under(imp, module+"/store/bunstore", module+"/store/memstore", "github.com/uptrace/bun", "modernc.org/sqlite")
		}, deep: true,
		reason: "engines are values that a composition gives",
	},
	{
		name: "servers/kit has no area, engine or driver", holds: func(r string) bool { return under(r, "servers/kit") },
		refuse: func(_, imp string) bool { return strings.HasPrefix(imp, module) && imp != module+"/servers/kit" }, deep: true,
		reason: "a node's main links the kit and no area's service",
	},
	{
		name: "a node has no area and no database", holds: func(r string) bool { return under(r, "servers/host", "servers/drivers", "servers/node") },
		refuse: func(_, imp string) bool {
			own := slices.ContainsFunc(areas, func(a string) bool { return imp == module+"/"+a || strings.HasPrefix(imp, module+"/"+a+"/api") })
			return own || imp == module+"/servers" || under(imp, module+"/store/bunstore", module+"/store/memstore", "github.com/uptrace/bun", "modernc.org/sqlite", "github.com/jackc/pgx", "github.com/go-sql-driver")
		}, deep: true,
		reason: "a host never touches a database, and can't",
	},
	{
		name: "the embedded cloud is light", holds: func(r string) bool { return r == "servers" || r == "servers/cloudtest" || r == "servers/conformance" },
		refuse: func(_, imp string) bool {
			return under(imp, "github.com/uptrace/bun", "modernc.org/sqlite", "github.com/jackc/pgx", "libvirt.org", "github.com/vishvananda", "github.com/google/nftables", "github.com/insomniacslk")
		}, deep: true,
		reason: "a test that wants a cloud links no SQL driver, libvirt or netlink",
	},
	{
		name: "conformance is for any cloud", holds: func(r string) bool { return r == "servers/conformance" },
		refuse: func(_, imp string) bool {
			return strings.HasPrefix(imp, module) && imp != module+"/servers/conformance"
		}, deep: true,
		reason: "the suite knows the wire API alone",
	},
	{
		name: "only compositions import servers",
		holds: func(r string) bool {
			return !under(r, "servers/allinone", "servers/identity", "servers/image", "servers/compute", "servers/network", "servers/objectstore",
				"servers/cloudtest", "servers/nacre", "servers/parts", "examples")
		},
		refuse: func(r, imp string) bool { return imp == module+"/servers" },
		reason: "nothing below knows how it is put together",
	},
}

func TestRules(t *testing.T) {
	ps := list(t)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			seen := 0
			for _, p := range ps {
				if !rule.holds(p.rel()) {
					continue
				}
				seen++
				imports := p.Imports
				if rule.deep {
					imports = p.Deps
				}
				for _, imp := range imports {
					require.False(t, rule.refuse(p.rel(), imp), "%s imports %s; %s", p.ImportPath, imp, rule.reason)
				}
			}
			require.Positive(t, seen, "the rule holds for no package: it is worth nothing")
		})
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range list(t) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command "
		}
		require.True(t, strings.HasPrefix(p.Doc, want), "%s: its comment begins with %q, not %q", p.ImportPath, p.Doc, want)
	}
}

func TestRootIsSmall(t *testing.T) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, p := range list(t) {
		if p.rel() == "" {
			for _, name := range p.GoFiles {
				f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
				require.NoError(t, err)
				files = append(files, f)
			}
		}
	}
	d, err := doc.NewFromFiles(fset, files, module)
	require.NoError(t, err)
	names := len(d.Funcs)
	for _, ty := range d.Types {
		names += 1 + len(ty.Funcs)
		// The values of a closed set count as one with their type.
	}
	for _, v := range append(slices.Clone(d.Vars), d.Consts...) {
		names += len(v.Names)
	}
	require.LessOrEqual(t, names, 40, "the vocabulary is at most 40 names")
}

// short are the packages of HTTP handlers, where a function has forty lines at most.
// A table of routes is as long as the routes are many: there each handler counts.
var short = []string{"identity/api"}

func TestSizes(t *testing.T) {
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return cmp.Or(err, filepath.SkipDir)
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		// A smell alarm: what grows over it is two things.
		lines := func(n ast.Node) int { return fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1 }
		if under(path, "identity", "objectstore") {
			require.LessOrEqual(t, fset.File(f.Pos()).LineCount(), 601, "%s is longer than 600 lines", path)
		}
		if !slices.Contains(short, filepath.ToSlash(filepath.Dir(path))) || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				require.True(t, strings.HasSuffix(n.Name.Name, "Routes") || lines(n) <= 40, "%s: %s has %d lines", path, n.Name.Name, lines(n))
			case *ast.FuncLit:
				require.LessOrEqual(t, lines(n), 40, "%s: a handler", fset.Position(n.Pos()))
			}
			return true
		})
		return nil
	}))
}

// TestNothingInternalIsSeen holds exported signatures to types that an outsider
// can name.
func TestNothingInternalIsSeen(t *testing.T) {
	for _, p := range list(t) {
		if strings.Contains(p.ImportPath, "/internal/") || p.Name == "main" {
			continue
		}
		for _, name := range append(slices.Clone(p.GoFiles), p.CgoFiles...) {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			require.NoError(t, err)
			hidden := internalNames(f)
			if len(hidden) == 0 {
				continue
			}
			for _, decl := range f.Decls {
				for _, e := range exported(decl) {
					ast.Inspect(e, func(n ast.Node) bool {
						if _, body := n.(*ast.BlockStmt); body {
							return false
						}
						if sel, ok := n.(*ast.SelectorExpr); ok {
							if id, ok := sel.X.(*ast.Ident); ok && hidden[id.Name] {
								t.Errorf("%s: an exported declaration names %s.%s, which nobody outside can", fset.Position(sel.Pos()), id.Name, sel.Sel.Name)
							}
						}
						return true
					})
				}
			}
		}
	}
}

// internalNames are the names under which a file knows internal packages.
func internalNames(f *ast.File) map[string]bool {
	out := map[string]bool{}
	for _, imp := range f.Imports {
		path := strings.Trim(imp.Path.Value, `"`)
		if !strings.HasPrefix(path, module) || !strings.Contains(path, "/internal/") {
			continue
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if imp.Name != nil {
			name = imp.Name.Name
		}
		out[name] = true
	}
	return out
}

// exported are the type expressions that a declaration shows.
func exported(decl ast.Decl) []ast.Node {
	var out []ast.Node
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d.Recv)) {
			out = append(out, d.Type)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					out = append(out, visible(s.Type)...)
				}
			case *ast.ValueSpec:
				if s.Type != nil && slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
					out = append(out, s.Type)
				}
			}
		}
	}
	return out
}

func exportedReceiver(recv *ast.FieldList) bool {
	e := recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// visible leaves a struct's unexported fields out; embedded ones are seen.
func visible(e ast.Expr) []ast.Node {
	st, ok := e.(*ast.StructType)
	if !ok {
		return []ast.Node{e}
	}
	var out []ast.Node
	for _, f := range st.Fields.List {
		if len(f.Names) == 0 || slices.ContainsFunc(f.Names, (*ast.Ident).IsExported) {
			out = append(out, f.Type)
		}
	}
	return out
}
