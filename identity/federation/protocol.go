package federation

import (
	"context"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/identity/kit"
	"github.com/nacre-cloud/nacre/store"
)

// ProtocolChange is what is given of a protocol; nil leaves a field as it is.
type ProtocolChange struct {
	MappingID         *string
	RemoteIDAttribute *string
}

// checkMapping refuses a protocol's mapping that is not there.
func (s *Service) checkMapping(ctx context.Context, id string) error {
	ok, err := s.mappings.Exists(ctx, store.Eq("id", id))
	if err == nil && !ok {
		err = nacre.Errorf(nacre.Invalid, "ValidationError", "Invalid mapping id: %s", id)
	}
	return err
}

// CreateProtocol adds a protocol to an identity provider.
func (s *Service) CreateProtocol(ctx context.Context, idp, id string, ch ProtocolChange) (Protocol, error) {
	p := Protocol{Key: kit.Joined(idp, id), ID: id, IdPID: idp, RemoteIDAttribute: ch.RemoteIDAttribute}
	if err := s.area.Enforce(ctx, "create_protocol", nil); err != nil {
		return p, err
	}
	if ch.MappingID == nil {
		return p, invalid("Invalid input for field 'protocol': 'mapping_id' is a required property")
	}
	p.MappingID = *ch.MappingID
	return p, s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.checkMapping(ctx, p.MappingID); err != nil {
			return err
		}
		if _, err := s.idps.GetForUpdate(ctx, idp); err != nil {
			return noIdP(err, idp)
		}
		if err := s.protocols.Insert(ctx, p); err != nil {
			return orConflict(err, "federation_protocol", "Duplicate entry found with ID %s", id)
		}
		return s.changed(ctx, "federation_protocol", "created", id)
	})
}

// GetProtocol shows a protocol.
func (s *Service) GetProtocol(ctx context.Context, idp, id string) (Protocol, error) {
	if err := s.area.Enforce(ctx, "get_protocol", nil); err != nil {
		return Protocol{}, err
	}
	p, err := s.protocols.Get(ctx, kit.Joined(idp, id))
	return p, noProtocol(err, idp, id)
}

// ListProtocols lists an identity provider's protocols.
func (s *Service) ListProtocols(ctx context.Context, idp string) ([]Protocol, error) {
	if err := s.area.Enforce(ctx, "list_protocols", nil); err != nil {
		return nil, err
	}
	return s.protocols.Where(ctx, store.Eq("idp_id", idp))
}

// UpdateProtocol changes a protocol.
func (s *Service) UpdateProtocol(ctx context.Context, idp, id string, ch ProtocolChange) (Protocol, error) {
	var out Protocol
	if err := s.area.Enforce(ctx, "update_protocol", nil); err != nil {
		return out, err
	}
	if ch.MappingID == nil {
		return out, invalid("Invalid input for field 'protocol': 'mapping_id' is a required property")
	}
	err := s.area.Tx(ctx, func(ctx context.Context) (err error) {
		if err := s.checkMapping(ctx, *ch.MappingID); err != nil {
			return err
		}
		out, err = s.protocols.Update(ctx, kit.Joined(idp, id), func(p *Protocol) error {
			p.MappingID = *ch.MappingID
			if ch.RemoteIDAttribute != nil {
				p.RemoteIDAttribute = ch.RemoteIDAttribute
			}
			return nil
		})
		if err != nil {
			return noProtocol(err, idp, id)
		}
		return s.changed(ctx, "federation_protocol", "updated", id)
	})
	return out, err
}

// DeleteProtocol removes a protocol and the users that came by it.
func (s *Service) DeleteProtocol(ctx context.Context, idp, id string) error {
	if err := s.area.Enforce(ctx, "delete_protocol", nil); err != nil {
		return err
	}
	return s.area.Tx(ctx, func(ctx context.Context) error {
		if err := s.protocols.Delete(ctx, kit.Joined(idp, id)); err != nil {
			return noProtocol(err, idp, id)
		}
		if err := s.parent.Ended(ctx, idp, id); err != nil {
			return err
		}
		return s.changed(ctx, "federation_protocol", "deleted", id)
	})
}
