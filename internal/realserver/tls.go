package realserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair is the certificate that all servers of a process show, for 127.0.0.1, and its
// key. It signs itself: whoever trusts it trusts each of them.
var pair = sync.OnceValues(func() (cert, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &private.PublicKey, private)
	if err != nil {
		panic(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
})

// Certificate writes the certificate that the servers show, and its key, for a server
// of the test's own.
func Certificate(t testing.TB) (cert, key string) {
	return certificate(t, t.TempDir(), nil)
}

// certificate writes both into a directory, for a server that runs with attr.
func certificate(t testing.TB, dir string, attr *syscall.SysProcAttr) (cert, key string) {
	t.Helper()
	c, k := pair()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, data := range map[string][]byte{cert: c, key: k} {
		require.NoError(t, os.WriteFile(name, data, 0o600))
		if attr != nil && attr.Credential != nil {
			require.NoError(t, os.Chown(name, int(attr.Credential.Uid), int(attr.Credential.Gid)))
		}
	}
	require.NoError(t, os.Chmod(cert, 0o644)) //nolint:gosec // it is public
	return cert, key
}
