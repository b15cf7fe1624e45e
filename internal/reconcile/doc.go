// Package reconcile drives what an API call has begun to rest, whatever dies on
// the way. It is why nothing gets stuck.
//
// An API call commits, in one transaction, the row in its transitional state and
// a row of work ([Reconciler.Put]). A worker claims the work under a lease, runs
// its current step, persists where it goes next, and goes on until it is done. If
// the worker dies, another takes over when the lease lapses, or soon after a process of
// the dead one's name runs again ([Config].Instance). Each claim has a
// lease number of its own, and a step writes only through [Job.Tx], which checks that
// number: a worker that was thought dead can't write any more. Work that takes the place
// of other work (a deletion, of a creation) begins when the step that runs has ended, in
// whichever process, so that what the step has under way is there to be cleared away.
// Work that is dropped meanwhile counts as none, but what comes after waits all the same.
//
// A step is named, idempotent and level-triggered: it looks at what is. It never
// waits for a host: it sends, returns [Again], and the report wakes it
// ([Reconciler.Wake]) or the next due time does. What fails is tried again with a
// growing wait; what can't succeed (a [Fail] error, or the deadline passed) goes
// to the handler's Expire, which must bring the object to rest (status error with
// a reason, everything given back) and is itself repeated until it succeeds: once
// it has begun, no step of that work runs any more.
//
// Programs of two releases may share a table: work of a kind that one does not
// know is left to the other, and an unknown step is a failure like any other.
package reconcile
