// Package kit is what every main needs: a configuration out of file, environment
// and flags ([Load]), a state directory with its secrets ([State]), a listener
// that stops gracefully ([Serve]), logs, metrics and clouds.yaml. It imports no
// area, engine or driver; a main hands the names of those it links to its own code.
//
//	cfg, err := kit.Load("allinone", os.Args[1:], os.Getenv)
//	state, err := kit.OpenState(cfg.StateDir)
//	defer state.Close()
//	l, err := kit.Listen(&cfg)
//	err = kit.Serve(ctx, l, handler, cfg, log)
package kit
