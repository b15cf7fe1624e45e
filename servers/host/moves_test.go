package host

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nacre-cloud/nacre/servers/kit"
)

// What a host says of where others fetch what moves, or why it does not start.
func TestListenMoves(t *testing.T) {
	for _, x := range []struct{ listen, ip, cert, address, refused string }{
		{listen: "", address: ""},
		{listen: "127.0.0.1:0", address: "http://127.0.0.1:"},
		{listen: "127.0.0.1:0", cert: "cert.pem", address: "https://127.0.0.1:"},
		{listen: "localhost:0", address: "http://localhost:"},
		{listen: "127.0.0.1:0", ip: "192.0.2.7", address: "http://192.0.2.7:"},
		{listen: "0.0.0.0:0", ip: "192.0.2.7", address: "http://192.0.2.7:"},
		{listen: ":0", ip: "192.0.2.7", address: "http://192.0.2.7:"},
		{listen: ":0", ip: "2001:db8::7", address: "http://[2001:db8::7]:"},
		{listen: ":0", refused: "my_ip"},
		{listen: "0.0.0.0:0", refused: "my_ip"},
		{listen: "[::]:0", refused: "my_ip"},
		{listen: "127.0.0.1", refused: "missing port"},
		{listen: "127.0.0.1:99999", refused: "migration_listen"},
	} {
		m, run, err := listenMoves(t.Context(), kit.Config{MigrationListen: x.listen, MyIP: x.ip, TLSCert: x.cert}, nil, slog.New(slog.DiscardHandler))
		if x.refused != "" {
			require.ErrorContains(t, err, x.refused, x.listen)
			continue
		}
		require.NoError(t, err, x.listen)
		if x.address == "" {
			require.Equal(t, Moves{}, m)
			require.Nil(t, run)
			continue
		}
		require.Regexp(t, "^\\Q"+x.address+"\\E[1-9][0-9]*$", m.Address)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, run(ctx))
	}
}
