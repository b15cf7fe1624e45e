package api_test

import (
	"encoding/xml"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
	"github.com/nacre-cloud/nacre/objectstore/api"
)

// What once was a hole in Swift. Others of its advisories: a signed URL that uploads
// a manifest (TestTempURLWritesNoPointers), one that is used for something else
// (TestTempURL), metadata limits by request only (TestMetadataLimitsHoldForTheWhole),
// connections left open by aborted reads (TestAbortedReadsOfLargeObjectsLeakNothing);
// in s3api entities in documents (TestEntitiesAreNotExpanded) and replayed signatures
// (TestSignaturesHold).

// CVE-2015-1856: whoever may not write in a container can't delete versions by
// deleting in it, whatever rights there are on the container of versions.
func TestVersionsAreNotDeletedWithoutTheRight(t *testing.T) {
	for _, kind := range []string{"X-Versions-Location", "X-History-Location"} {
		w := start(t)
		w.is(201, "PUT", "old", "", "X-Container-Write: q:*", "X-Container-Read: q:*,.rlistings")
		w.is(201, "PUT", "c", "", kind+": old", "X-Container-Read: q:*")
		for _, body := range []string{"one", "two", "three"} {
			w.is(201, "PUT", "c/o", body)
		}
		for range 3 {
			require.Equal(t, 403, w.do("q:v:member", "DELETE", "c/o", "").StatusCode)
			require.Equal(t, 403, w.do("q:v:member", "PUT", "c/o", "x").StatusCode)
		}
		require.Equal(t, "three", w.is(200, "GET", "c/o", "").body)
		require.Len(t, strings.Fields(w.is(200, "GET", "old", "").body), 2)
	}
	// The same of the newer kind: a version is deleted by who may write.
	w := start(t)
	w.is(201, "PUT", "v", "", "X-Versions-Enabled: true", "X-Container-Read: q:*")
	first := w.is(201, "PUT", "v/o", "one").Header.Get("X-Object-Version-Id")
	w.is(201, "PUT", "v/o", "two")
	for _, method := range []string{"DELETE", "PUT"} {
		require.Equal(t, 403, w.do("q:v:member", method, "v/o?version-id="+first, "").StatusCode)
	}
	require.Equal(t, "one", w.is(200, "GET", "v/o?version-id="+first, "").body)
}

// CVE-2013-2161 and CVE-2014-3497: names that a user makes up appear in documents and
// headers as text.
func TestNamesAreNotMarkup(t *testing.T) {
	w := start(t)
	const name = `"><script>`
	w.is(201, "PUT", "%22%3E%3Cscript%3E", "")
	w.is(201, "PUT", "%22%3E%3Cscript%3E/%22%3E%3Cscript%3E", "x")
	var account struct {
		XMLName   xml.Name `xml:"account"`
		Container []struct {
			Name string `xml:"name"`
		} `xml:"container"`
	}
	require.NoError(t, xml.Unmarshal([]byte(w.is(200, "GET", "?format=xml", "").body), &account))
	require.Equal(t, name, account.Container[0].Name)
	var container struct {
		XMLName xml.Name `xml:"container"`
		Name    string   `xml:"name,attr"`
		Object  []struct {
			Name string `xml:"name"`
		} `xml:"object"`
	}
	require.NoError(t, xml.Unmarshal([]byte(w.is(200, "GET", "%22%3E%3Cscript%3E?format=xml", "").body), &container))
	require.Equal(t, []string{name, name}, []string{container.Name, container.Object[0].Name})
	a := w.do("", "GET", "/v1/AUTH_%22%3Cscript%3E%0d%0aX-Evil:%20x/c", "")
	require.Equal(t, 401, a.StatusCode)
	require.Empty(t, a.Header.Get("X-Evil"))
	require.NotContains(t, a.body, "<script>")
	realm := a.Header.Values("Www-Authenticate")[0]
	require.NotContains(t, strings.TrimSuffix(strings.TrimPrefix(realm, `Swift realm="`), `"`), `"`, "the realm ends where it ends")
}

// What a service keeps for a project takes both: neither the project's users nor the
// service can get at it alone.
func TestServiceAccounts(t *testing.T) {
	w := start(t, func(_ *api.Config, c *objectstore.Config) { c.ServicePrefix = "SERVICE_" })
	const path, service = "/v1/SERVICE_p/c", "services:glance:service"
	put := func(token, service string) int {
		return w.do(token, "PUT", path, "", "X-Service-Token: "+service).StatusCode
	}
	require.Equal(t, 201, put(owner, service))
	require.Equal(t, 403, put(owner, ""))
	require.Equal(t, 403, put(service, service), "the service has no role in the project")
	require.Equal(t, 403, put("q:v:member", service))
	require.Contains(t, []int{401, 403}, put(owner, "services:nova:member"), "that is no service")
	require.Equal(t, 202, put("x:y:ResellerAdmin", ""))
	require.Equal(t, 204, w.do(owner, "GET", path, "", "X-Service-Token: "+service).StatusCode)
	require.Equal(t, 403, w.do(owner, "GET", path, "").StatusCode)
}
