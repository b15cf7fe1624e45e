// Package placement is OpenStack's Placement: who offers how much of what
// (resource providers with inventories), and who uses it (consumers with
// allocations). It is a sub-area of compute with its own service, tables and
// policy; the two share one Engine, so that a claim and the server's row change
// in one transaction.
//
// Use is never stored beside an inventory: it is summed from the allocations,
// under the provider's lock, in the transaction that adds to them. So it can't
// drift, and a provider is never given out twice.
//
// There are two ways in. Compute itself calls Report, FreeOf, Claim and Release in
// its own transactions, without policy. Everything else (what package
// placement/api serves) enforces placement's policy on the context's caller, and
// its errors carry placement's codes. Changes of a provider are made under its
// lock; who names a generation gets nacre.Conflict with CodeConcurrentUpdate when
// somebody was faster.
package placement
