// Package kit is what identity and its sub-areas share: Keystone's words for what
// goes wrong, how its lists are asked, what its default rules are made of, and what
// a sub-area has of the area that it is a part of.
//
//	type Config struct {
//		kit.Area
//		Parent Parent
//	}
//
//	func (s *Service) GetRegion(ctx context.Context, id string) (Region, error) {
//		if err := s.area.Enforce(ctx, "get_region", nil); err != nil {
//			return Region{}, err
//		}
//		r, err := s.regions.Get(ctx, id)
//		return r, kit.OrNotFound(err, "region", id)
//	}
//
// It keeps nothing and decides nothing: what an area promises is said by the area.
package kit
