package bunstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// crowded is a server that gives out one connection.
type crowded struct{ given bool }

var errFull = errors.New("too many connections")

func (c *crowded) Connect(context.Context) (driver.Conn, error) {
	if c.given {
		return nil, errFull
	}
	c.given = true
	return silent{}, nil
}

func (c *crowded) Driver() driver.Driver { return nil }

type silent struct{ driver.Conn }

func (silent) Close() error { return nil }

// Patience is for all that a session is waited for: its turn, and the server's.
func TestPatienceIsSpentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := serverPool(sql.OpenDB(&crowded{}), 2, func(err error) bool { return errors.Is(err, errFull) })
		defer func() { require.NoError(t, p.close()) }()
		const patience = 10 * time.Second
		one, err := p.acquire(t.Context(), patience)
		require.NoError(t, err)
		p.slots <- struct{}{} // another is at work, as far as the pool knows
		begun := time.Now()
		go func() {
			time.Sleep(patience - time.Second)
			<-p.slots
		}()
		_, err = p.acquire(t.Context(), patience)
		require.ErrorIs(t, err, errFull)
		require.Less(t, time.Since(begun), patience+time.Second)
		require.GreaterOrEqual(t, time.Since(begun), patience)
		p.release(one)
	})
}
