package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuotas(t *testing.T) {
	w := start(t)
	w.is(201, "PUT", "c", "", "X-Container-Meta-Quota-Bytes: 10", "X-Container-Meta-Quota-Count: 2")
	w.is(201, "PUT", "c/a", "12345")
	w.is(413, "PUT", "c/b", "123456")
	w.is(201, "PUT", "c/a", "1234567890")
	w.is(413, "PUT", "c/b", "1")
	w.is(201, "PUT", "c/b", "")
	w.is(413, "PUT", "c/c", "")
	w.is(400, "POST", "c", "", "X-Container-Meta-Quota-Bytes: much")
	w.is(403, "POST", "", "", "X-Account-Meta-Quota-Bytes: 12")
	require.Equal(t, 204, w.do("x:y:ResellerAdmin", "POST", "", "", "X-Account-Meta-Quota-Bytes: 12").StatusCode)
	w.is(201, "PUT", "d", "")
	w.is(413, "PUT", "d/a", "123")
	w.is(201, "PUT", "d/a", "12")
	require.Equal(t, 201, w.do("x:y:ResellerAdmin", "PUT", "d/b", "123").StatusCode, "the reseller is not bound")
	w.is(204, "DELETE", "d/b", "")
	// What was deleted makes room at once, and what is replaced counts once.
	w.is(204, "DELETE", "d/a", "")
	w.is(201, "PUT", "d/a", "12")
	w.is(201, "PUT", "d/a", "21")

	set := func(headers ...string) {
		require.Equal(t, 204, w.do("x:y:ResellerAdmin", "POST", "", "", headers...).StatusCode)
	}
	set("X-Remove-Account-Quota-Bytes: x", "X-Account-Quota-Count: 4")
	a := w.is(204, "HEAD", "", "")
	require.Equal(t, []string{"4", ""}, []string{a.Header.Get("X-Account-Quota-Count"), a.Header.Get("X-Account-Quota-Bytes")})
	w.is(201, "PUT", "d/b", "1")
	w.is(413, "PUT", "d/c", "1")
	w.is(413, "PUT", "d/c", "")
	w.is(403, "POST", "", "", "X-Account-Quota-Count: 5")
	set("X-Account-Quota-Count: ", "X-Account-Quota-Bytes-Policy-Policy-0: 14", "X-Account-Quota-Count-Policy-Policy-0: 5")
	require.Equal(t, "14", w.is(204, "HEAD", "", "").Header.Get("X-Account-Quota-Bytes-Policy-Policy-0"))
	require.Contains(t, w.is(413, "PUT", "d/c", "22").body, "Upload exceeds policy quota.")
	w.is(201, "PUT", "d/c", "2")
	w.is(413, "PUT", "d/d", "")
	set("X-Remove-Account-Quota-Count-Policy-Policy-0: x", "X-Remove-Account-Quota-Bytes-Policy-Policy-0: x")
	w.is(201, "PUT", "d/d", "more than there was room for")
}
