package api_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/objectstore"
)

// Whoever talks to the store can't tell whether it encrypts: what holds without
// encryption holds with it.
func TestEncryptionIsNotSeen(t *testing.T) {
	secrets = &objectstore.Secrets{ByID: map[string][]byte{"": bytes.Repeat([]byte{7}, 32)}}
	defer func() { secrets = nil }()
	for name, test := range map[string]func(*testing.T){
		"headers and conditions": TestObjectHeadersAndConditions, "ranges": TestRanges, "large objects": TestLargeObjects, "symlinks": TestSymlinks, "metadata": TestMetadataLimitsHoldForTheWhole,
		"expiry": TestExpiry, "versions": TestBothKindsOfVersions, "static web": TestStaticWeb, "signed URLs": TestTempURL, "forms": TestFormPost,
		"aborted reads": TestAbortedReadsOfLargeObjectsLeakNothing, "clients that go away": TestClientsThatGoAway, "streams": TestBodiesStream,
	} {
		t.Run(name, test)
	}
	w := start(t)
	a := w.do("", "GET", "/info", "")
	require.Equal(t, http.StatusOK, a.StatusCode)
	require.NotContains(t, strings.ToLower(a.body), "encrypt")

	// COPY makes an object with a key of its own.
	w.is(201, "PUT", "c", "")
	w.is(201, "PUT", "c/o", "the bytes", "X-Object-Meta-A: b")
	was := w.is(200, "GET", "c/o", "")
	w.is(201, "COPY", "c/o", "", "Destination: c/p")
	w.is(204, "DELETE", "c/o", "")
	now := w.is(200, "GET", "c/p", "")
	require.Equal(t, "the bytes", now.body)
	require.Equal(t, was.Header.Get("Etag"), now.Header.Get("Etag"))
	require.Equal(t, "b", now.Header.Get("X-Object-Meta-A"))
}
