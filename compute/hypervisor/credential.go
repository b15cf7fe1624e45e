package hypervisor

import (
	"crypto/sha256"
	"encoding/hex"
)

// ImageHeader is the header that describes the image whose bytes compute streams to
// a host in another process: an [Image] in JSON.
const ImageHeader = "Nacre-Image"

// CredentialHash is what compute keeps of a host's secret, and the key by which the
// host's metadata proxies sign: the SHA-256 in hex.
func CredentialHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
