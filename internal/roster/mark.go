package roster

// Mark is the place of a report among those of a host's agent, by which a report that
// was overtaken is known: copies that share a queue may take two of them in the wrong
// order, and what was kept while nobody listened comes late.
type Mark struct {
	// Epoch is the agent's start in nanoseconds; Sequence counts its reports from 1. A
	// Sequence of 0 is an agent that does not count: its reports pass as they come.
	Epoch, Sequence int64
}

// Overtaken says that a report is older than the last full one of its host, or from an
// agent that is gone. A clock may have been set back: so an earlier start counts once the
// host has been silent (alive is false).
func (m Mark) Overtaken(host Mark, alive bool) bool {
	switch {
	case m.Sequence == 0:
		return false
	case m.Epoch == host.Epoch:
		return m.Sequence < host.Sequence
	}
	return m.Epoch < host.Epoch && alive
}

// Succeeds says that a report is the first that is heard of a new agent, though not a
// full one: from now on the agent before it counts no more.
func (m Mark) Succeeds(host Mark) bool { return m.Sequence != 0 && m.Epoch > host.Epoch }

// OvertakenBy says that a report is older than the one that an object's row is by. Where
// that one is another agent's (the host's before, another host's), the host's agent of
// now is believed.
func (m Mark) OvertakenBy(row, host Mark) bool {
	switch {
	case m.Sequence == 0:
		return false
	case m.Epoch == row.Epoch:
		return m.Sequence < row.Sequence
	}
	return m.Epoch < row.Epoch && m.Epoch != host.Epoch
}
