package kit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// grace is how long requests may take to end once a server is told to stop.
const grace = 10 * time.Second

// Listen opens the listener, and fills in the URL where it is not set: from the
// address that was listened on, so port 0 works.
func Listen(c *Config) (net.Listener, error) {
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return nil, err
	}
	return l, fillURL(&c.URL, l, c)
}

// ListenObjects opens the object store's own listener, if it is to have one, and
// fills in its URL where that is not set.
func ListenObjects(c *Config) (net.Listener, error) {
	at := c.ObjectListen
	if at == "auto" {
		at = None
		if c.Listen == Default().Listen {
			at = "127.0.0.1:8080"
		}
	}
	if at == None || at == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("object_listen: %w", err)
	}
	return l, fillURL(&c.ObjectURL, l, c)
}

// fillURL fills in a listener's address as clients see it.
func fillURL(url *string, l net.Listener, c *Config) error {
	if *url != "" {
		return nil
	}
	addr := l.Addr().(*net.TCPAddr)
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if c.TLSCert != "" {
		scheme = "https://"
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return errors.Join(err, l.Close())
	}
	*url = scheme + net.JoinHostPort(host, port)
	return nil
}

// Serve answers on a listener until ctx ends; then it takes no new requests and
// waits for those that run, ten seconds at most. It closes the listener.
func Serve(ctx context.Context, l net.Listener, h http.Handler, c Config, log *slog.Logger) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	ended := make(chan error, 1)
	go func() {
		if c.TLSCert != "" {
			ended <- srv.ServeTLS(l, c.TLSCert, c.TLSKey)
			return
		}
		ended <- srv.Serve(l)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn("requests were cut off at the stop")
		err = srv.Close()
	}
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// Main runs a program until it has done what was asked, or is told to stop (SIGINT,
// SIGTERM), and exits: 1 with the error's text. A second signal ends it at once.
func Main(program string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:])
	if err == nil || errors.Is(err, ErrPrinted) {
		os.Exit(0)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
	os.Exit(1)
}
