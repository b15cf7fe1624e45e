package awssign

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The signatures are those that python3-keystoneclient's Ec2Signer makes, with
// which Keystone compares.
var samples = map[string]struct {
	req       Request
	at        string
	signature string
}{
	"version 2": {Request{Host: "ec2.example.com:8773", Verb: "GET", Path: "/services/Cloud", Params: map[string]string{
		"SignatureVersion": "2", "AWSAccessKeyId": "access", "Action": "Describe Things/~*é", "Timestamp": "2026-01-02T03:04:05Z", "SignatureMethod": "HmacSHA256",
	}}, "2026-01-02T03:04:05Z", "pQsfGO3ZSvmKxuIz8hm0jf9ePOXhsD3PKwg9PiKl+sU="},
	"version 4 by header": {Request{Host: "iam.example.com", Verb: "POST", Path: "/", Params: map[string]string{"Action": "CreateUser"}, Headers: map[string]string{
		"Host": "iam.example.com", "Content-type": "application/x-www-form-urlencoded", "X-Amz-Date": "20260102T030405Z",
		"Authorization": "AWS4-HMAC-SHA256 Credential=access/20260102/us-east-1/iam/aws4_request,SignedHeaders=content-type;host;x-amz-date,Signature=x",
	}, BodyHash: "b6359072c78d70ebee1e81adcbab4f01bf2c23245fa365ef83fe8f1f955085e2"}, "20260102T030405Z", "b237406cc161e7bb0f0c7f8d05737fc1908aa147287b17d6fb60556a6cce5cbb"},
	"version 4 by query": {Request{Host: "iam.example.com", Verb: "GET", Path: "/", Params: map[string]string{
		"Action": "ListUsers", "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": "access/20260102/us-east-1/iam/aws4_request", "X-Amz-Date": "20260102T030405Z", "X-Amz-SignedHeaders": "host",
	}, Headers: map[string]string{"Host": "iam.example.com"}, BodyHash: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		"20260102T030405Z", "207c3f56ac9d845948f391fbac1af445e90c9d25d20dff2063445e57c6b0e662"},
}

func TestVerify(t *testing.T) {
	for name, c := range samples {
		r := c.req
		r.Signature = c.signature
		at, ok := r.Verify("secret")
		require.True(t, ok, name)
		require.Equal(t, c.at, at)
		_, ok = r.Verify("other")
		require.False(t, ok)
		more := r
		more.Params = maps.Clone(r.Params)
		more.Params["Action"] = "DeleteEverything"
		_, ok = more.Verify("secret")
		require.Equal(t, name == "version 4 by header", ok, "a form's parameters are covered by the body's hash")
		more.Params["Timestamp"] = time.Now().Format(time.RFC3339)
		if at, ok := more.Verify("secret"); ok {
			require.Equal(t, c.at, at, "a time that was not signed does not count")
		}
	}
	for _, version := range []string{"0", "1", "3", "4", ""} {
		r := Request{Signature: "x", Params: map[string]string{"SignatureVersion": version, "Action": "a", "Timestamp": "t"}}
		_, ok := r.Verify("secret")
		require.False(t, ok, version)
	}
}

func FuzzVerify(f *testing.F) {
	for _, c := range samples {
		f.Add(c.req.Host, c.req.Verb, c.req.Path, c.req.Params["SignatureVersion"], c.req.Headers["Authorization"], c.at, c.signature)
	}
	f.Fuzz(func(t *testing.T, host, verb, path, version, auth, at, signature string) {
		r := Request{Host: host, Verb: verb, Path: path, Signature: signature, Params: map[string]string{"SignatureVersion": version, "Timestamp": at}, Headers: map[string]string{"Authorization": auth, "X-Amz-Date": at, "Host": host}}
		if _, ok := r.Verify("a secret that nobody has"); ok {
			t.Fatal("a signature was found")
		}
		signS3("secret", []byte(auth+"\n"+at+"\n"+path+"\n"+signature))
	})
}
