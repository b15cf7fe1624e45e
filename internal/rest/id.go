package rest

import "github.com/google/uuid"

func (s *Service) requestID() string {
	if s.NewID != nil {
		return "req-" + s.NewID()
	}
	return "req-" + uuid.NewString()
}
