package oauth1

import (
	"errors"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre"
)

// TestBaseString is the example of RFC 5849, section 3.4.1.
func TestBaseString(t *testing.T) {
	r := &Request{
		Method: "post", URL: "http://EXAMPLE.com:80/request?b5=%3D%253D&a3=a&c%40=&a2=r%20b",
		Authorization: `OAuth realm="Example", oauth_consumer_key="9djdj82h48djs9d2", oauth_token="kkk9d7dh3k39sjv7", oauth_signature_method="HMAC-SHA1", oauth_timestamp="137131201", oauth_nonce="7d8f3e4a", oauth_signature="bYT5CMsGcbgUdFHObYMEfcx6bsw%3D"`,
		Form:          url.Values{"c2": {""}, "a3": {"2 q"}},
	}
	p, err := parse(r.Authorization)
	require.NoError(t, err)
	require.Equal(t, "bYT5CMsGcbgUdFHObYMEfcx6bsw=", p["oauth_signature"])
	base, err := r.base(p)
	require.NoError(t, err)
	require.Equal(t, "POST&http%3A%2F%2Fexample.com%2Frequest&a2%3Dr%2520b%26a3%3D2%2520q%26a3%3Da%26b5%3D%253D%25253D%26c%2540%3D%26c2%3D%26oauth_consumer_key%3D9djdj82h48djs9d2"+
		"%26oauth_nonce%3D7d8f3e4a%26oauth_signature_method%3DHMAC-SHA1%26oauth_timestamp%3D137131201%26oauth_token%3Dkkk9d7dh3k39sjv7", base)
}

func TestSigned(t *testing.T) {
	r := &Request{Method: "GET", URL: "https://photos.example.net/photos?file=vacation.jpg&size=original"}
	// The example of OAuth Core 1.0, appendix A.5, which RFC 5849 keeps the rules of.
	r.URL = "http://photos.example.net/photos?file=vacation.jpg&size=original"
	p := params{"oauth_consumer_key": "dpf43f3p2l4k3l03", "oauth_token": "nnch734d00sl2jdk", "oauth_signature_method": "HMAC-SHA1", "oauth_signature": "tR3+Ty81lMeYAr/Fid0kMTYa/WM=",
		"oauth_timestamp": "1191242096", "oauth_nonce": "kllo9940pd9333jh", "oauth_version": "1.0"}
	ok, err := r.signed(p, "kd94hf93k423kf44", "pfkkdhi9sl3r4s00")
	require.NoError(t, err)
	require.True(t, ok)
	for _, method := range []string{"RSA-SHA1", "", "hmac-sha1"} {
		p["oauth_signature_method"] = method
		ok, err = r.signed(p, "kd94hf93k423kf44", "pfkkdhi9sl3r4s00")
		require.NoError(t, err)
		require.False(t, ok, method)
	}
}

// FuzzParse holds that no header makes the parser panic, and that it fails in one
// way only.
func FuzzParse(f *testing.F) {
	f.Add(`OAuth realm="", oauth_consumer_key="a%20b", oauth_nonce="x"`, "http://h/p?a=b")
	f.Add(`oauth a="b",,c="d`, "//")
	f.Fuzz(func(t *testing.T, header, u string) {
		p, err := parse(header)
		r := &Request{Method: "POST", URL: u, Authorization: header}
		if err == nil {
			_, err = r.base(p)
		}
		if err != nil && !errors.Is(err, nacre.Invalid) {
			t.Fatal(err)
		}
	})
}
