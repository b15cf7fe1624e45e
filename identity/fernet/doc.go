// Package fernet is Keystone's token format and key repository: a token made
// here is accepted by a real Keystone that has the same keys, and the reverse.
//
//	keys, err := fernet.Open("/etc/keystone/fernet-keys") // or fernet.Memory()
//	text, err := keys.Pack(fernet.Token{UserID: id, Methods: []string{"password"}, …})
//	token, err := keys.Unpack(text)
//
// # Format
//
// A token is a Fernet token (AES-128-CBC, HMAC-SHA256, URL-safe base64) without
// its padding. Its content is a msgpack array: a version, then that version's
// fields. Read and written are 0 (unscoped), 1 (domain), 2 (project), 3 (trust),
// 8 (system) and 9 (application credential). Ids that are UUIDs in hex are
// packed as 16 bytes. The time of issue is the Fernet timestamp; it and the
// expiry count whole seconds.
//
// # Key repository
//
// A directory of files named by number, each one base64 key. The highest is the
// primary, by which tokens are made; 0 is staged and becomes the next primary;
// all are tried when a token is read. [Init] and [Rotate] do what keystone-manage
// fernet_setup and fernet_rotate do. Open repositories notice a change within a
// second.
package fernet
