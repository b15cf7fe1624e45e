package released

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/store"
)

type inner struct {
	A string `json:"a"`
	B []int  `json:"b,omitempty"`
}

type message struct {
	ID    string            `json:"id"`
	Inner *inner            `json:"inner"`
	Map   map[string]inner  `json:"map"`
	At    time.Time         `json:"at"`
	Tags  map[string]string `json:"tags"`
}

func found(t *testing.T, was, is any) map[string]string {
	text, err := json.Marshal(Sample(reflect.TypeOf(was)).Interface())
	require.NoError(t, err)
	out := map[string]string{}
	compare(out, "m", text, plain(t, Sample(reflect.TypeOf(is)).Interface()), reflect.TypeOf(is))
	return out
}

// strict refuses what it does not know.
type strict struct {
	ID string `json:"id"`
}

func (s *strict) UnmarshalJSON(b []byte) error {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	s.ID = m["id"]
	return nil
}

func TestValues(t *testing.T) {
	type more struct {
		message
		New int `json:"new"`
	}
	type innerWithout struct {
		B []int `json:"b"`
	}
	type without struct {
		message
		Inner *innerWithout `json:"inner"`
	}
	type otherwise struct {
		message
		ID int `json:"id"`
	}
	type renamed struct {
		ID    string            `json:"uuid"`
		Inner *inner            `json:"inner"`
		Map   map[string]inner  `json:"map"`
		At    time.Time         `json:"at"`
		Tags  map[string]string `json:"tags"`
	}
	require.Empty(t, found(t, message{}, message{}))
	require.Empty(t, found(t, message{}, more{}), "a new field")
	require.Contains(t, found(t, message{}, without{}), "m.inner.a", "a field that went")
	require.NotEmpty(t, found(t, message{}, otherwise{}), "another type")
	require.Contains(t, found(t, message{}, renamed{}), "m.id", "another name")
	require.NotEmpty(t, found(t, strict{}, strict{}), "a reader that refuses later fields")
}

type row struct {
	ID   string `store:"id,pk"`
	Name string `store:"name,unique=name"`
	Size int    `store:"size,index=size"`
	Data inner  `store:"data,json"`
}

func TestSchema(t *testing.T) {
	type wider struct {
		row
		New  string `store:"new,index=new"`
		Null string `store:"nullable,null"`
	}
	type narrower struct {
		ID   string `store:"id,pk"`
		Name string `store:"name,unique=name"`
		Data inner  `store:"data,json"`
	}
	type unique struct {
		ID   string `store:"id,pk"`
		Name string `store:"name,unique=name"`
		Size int    `store:"size,unique=size"`
		Data inner  `store:"data,json"`
	}
	type loose struct {
		ID   string `store:"id,pk"`
		Name string `store:"name"`
		Size int    `store:"size,null"`
		Data string `store:"data"`
	}
	look := func(def *store.TableDef) map[string]string {
		out := map[string]string{}
		expands(out, "t", describe(t, store.Define[row]("t")), describe(t, def), def)
		return out
	}
	require.Empty(t, look(store.Define[row]("t")))
	require.Empty(t, look(store.Define[wider]("t")), "new columns and indexes")
	require.Contains(t, look(store.Define[narrower]("t")), "t.size", "a column that went")
	require.Contains(t, look(store.Define[unique]("t")), "t/size", "an index that allows less")
	bad := look(store.Define[loose]("t"))
	require.Contains(t, bad, "t/name", "an index that the release relies on")
	require.Contains(t, bad, "t.size", "NULL where there was none")
	require.Contains(t, bad, "t.data", "another type")
}
