package objectstore

import (
	"context"
	"strconv"
	"strings"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// The headers of an account's quotas, which only the reseller sets. A policy's are
// these and "-Policy-" and its name.
const (
	quotaBytes       = "X-Account-Meta-Quota-Bytes"
	quotaCount       = "X-Account-Sysmeta-Quota-Count"
	quotaBytesPolicy = "X-Account-Sysmeta-Quota-Bytes-Policy-"
	quotaCountPolicy = "X-Account-Sysmeta-Quota-Count-Policy-"
)

// overQuota is what an account's or container's quota refuses.
func overQuota(what string) error {
	return nacre.Errorf(nacre.QuotaExceeded, "", "Upload exceeds %squota.", what)
}

// checkQuotas lets only the reseller set quotas, and only to numbers.
func (s *Service) checkQuotas(ctx context.Context, meta map[string]string) error {
	for name, q := range meta {
		if name != quotaBytes && name != quotaCount && !strings.HasPrefix(name, quotaBytesPolicy) && !strings.HasPrefix(name, quotaCountPolicy) {
			continue
		}
		if !s.Reseller(ctx) {
			return nacre.Errorf(nacre.Forbidden, "", "Access was denied to this resource.")
		}
		if n, err := strconv.ParseInt(q, 10, 64); q != "" && (err != nil || n < 0) {
			return invalid("Bad quota.")
		}
	}
	return nil
}

// quotaAsk asks whether an object may be put.
type quotaAsk struct {
	c Container
	// b is the transaction with what has changed in it; nil outside, where id names the
	// object.
	b  *batch
	id string
	// old is what is replaced, size what comes instead.
	old  *Object
	size int64
	// exempt says that the reseller puts, whom accounts' quotas don't bind.
	exempt bool
}

// pending is what has changed so far in the containers of an account, of one policy
// where that is not empty.
func (b *batch) pending(account, policy string) (out counts) {
	if b == nil {
		return out
	}
	for id, n := range b.counts {
		if c := b.containers[id]; c.Account == account && (policy == "" || c.Policy == policy) {
			out.objects, out.bytes = out.objects+n.objects, out.bytes+n.bytes+n.versionBytes
		}
	}
	return out
}

// withinQuota holds a container and its account to their quotas.
func (s *Service) withinQuota(ctx context.Context, q quotaAsk) error {
	a, err := s.findAccount(ctx, q.c.Account)
	if err != nil {
		return err
	}
	if !a.Deleted.IsZero() {
		return notFound()
	}
	policyBytes, policyCount := a.Meta[quotaBytesPolicy+q.c.Policy], a.Meta[quotaCountPolicy+q.c.Policy]
	byAccount := !q.exempt && a.Meta[quotaBytes]+a.Meta[quotaCount]+policyBytes+policyCount != ""
	if !byAccount && q.c.Meta[containerQuotaBytes]+q.c.Meta[containerQuotaCount] == "" {
		return nil
	}
	if q.b == nil {
		if q.c, err = s.containers.Get(ctx, q.c.ID); err != nil {
			return store.WrapNotFound(err, notFound)
		}
		if q.old, err = s.current(ctx, q.id); err != nil {
			return err
		}
	}
	more, size := int64(1), q.size
	if q.old != nil {
		more, size = 0, size-q.old.Bytes
	}
	now := counts{}
	if q.b != nil {
		now = *q.b.counts[q.c.ID]
	}
	if over(q.c.Meta[containerQuotaBytes], q.c.Bytes+q.c.VersionBytes+now.bytes+now.versionBytes+size) || over(q.c.Meta[containerQuotaCount], q.c.Objects+now.objects+more) {
		return overQuota("")
	}
	if !byAccount {
		return nil
	}
	if store.Inside(ctx, s.c.Engine) {
		if err := store.Lock(ctx, s.c.Engine, "account/"+q.c.Account); err != nil {
			return err
		}
	}
	info := AccountInfo{Account: a, Policies: map[string]PolicyUsage{}}
	if err := s.sum(ctx, &info); err != nil {
		return err
	}
	all, mine, policy := q.b.pending(q.c.Account, ""), q.b.pending(q.c.Account, q.c.Policy), info.Policies[q.c.Policy]
	switch {
	case over(a.Meta[quotaBytes], info.Bytes+all.bytes+size), over(a.Meta[quotaCount], info.Objects+all.objects+more):
		return overQuota("")
	case over(policyBytes, policy.Bytes+mine.bytes+size), over(policyCount, policy.Objects+mine.objects+more):
		return overQuota("policy ")
	}
	return nil
}

func over(quota string, n int64) bool {
	if quota == "" {
		return false
	}
	q, err := strconv.ParseInt(quota, 10, 64)
	return err == nil && n > q
}
