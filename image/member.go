package image

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/store"
)

// Member is a project that a shared image is shared with. It sees the image at
// once by its id, and in lists when it has accepted.
type Member struct {
	// ID is "<image>/<project>".
	ID      string `store:"id,pk"`
	ImageID string `store:"image_id,index=image_member_image"`
	Project string `store:"member_id,index=image_member_project"`
	// Status is pending, accepted or rejected.
	Status  string    `store:"status"`
	Created time.Time `store:"created_at"`
	Updated time.Time `store:"updated_at"`
}

// MemberStatuses are the ones that a member may set.
var MemberStatuses = []string{"pending", "accepted", "rejected"}

// isMember reports whether the image is shared with the caller.
func (s *Service) isMember(ctx context.Context, c *nacre.Caller, im *Image) (bool, error) {
	if im.Visibility != "shared" || im.OwnerID == c.ProjectID || c.ProjectID == "" {
		return false, nil
	}
	return s.members.Exists(ctx, store.Eq("id", im.ID+"/"+c.ProjectID))
}

// shared reads an image whose members are asked for, and enforces rule on it.
func (s *Service) shared(ctx context.Context, id, rule, refusal string) (Image, error) {
	im, err := s.Get(ctx, id)
	if err != nil {
		return im, err
	}
	if im.Visibility != "shared" {
		return im, nacre.Errorf(nacre.Forbidden, "", "%s", refusal+" for image "+id+": Only shared images have members.")
	}
	c, err := s.caller(ctx)
	if err != nil {
		return im, err
	}
	member, err := s.isMember(ctx, c, &im)
	if err != nil {
		return im, err
	}
	if err := s.c.Policy.Enforce(ctx, rule, target(c, &im, member)); err != nil {
		return im, nacre.Errorf(nacre.KindOf(err), "", "%s for image %s.", refusal, id)
	}
	return im, nil
}

// owns reports whether the caller may see all members, not its own membership alone.
func (s *Service) owns(ctx context.Context, im *Image) bool {
	return im.OwnerID == nacre.CallerFrom(ctx).ProjectID || s.isAdmin(ctx)
}

// Members lists whom an image is shared with: all for its owner, the caller's own
// membership for a member.
func (s *Service) Members(ctx context.Context, id string) ([]Member, error) {
	im, err := s.shared(ctx, id, "get_members", "Not allowed to list members")
	if err != nil {
		return nil, err
	}
	w := store.Eq("image_id", id)
	if !s.owns(ctx, &im) {
		w = store.And(w, store.Eq("member_id", nacre.CallerFrom(ctx).ProjectID))
	}
	return s.members.Where(ctx, w)
}

// Member is one membership.
func (s *Service) Member(ctx context.Context, id, project string) (Member, error) {
	im, err := s.shared(ctx, id, "get_member", "You are not authorized to lookup the members")
	if nacre.KindOf(err) == nacre.Forbidden && err != nil {
		return Member{}, nacre.Errorf(nacre.NotFound, "", "%s", message(err))
	}
	if err != nil {
		return Member{}, err
	}
	return s.member(ctx, &im, project)
}

func message(err error) string {
	var e *nacre.Error
	if errors.As(err, &e) {
		return e.Message
	}
	return err.Error()
}

func (s *Service) member(ctx context.Context, im *Image, project string) (Member, error) {
	none := func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "", "%s not found in the member list of the image %s.", project, im.ID)
	}
	if !s.owns(ctx, im) && nacre.CallerFrom(ctx).ProjectID != project {
		return Member{}, none()
	}
	m, err := s.members.Get(ctx, im.ID+"/"+project)
	return m, store.WrapNotFound(err, none)
}

// AddMember shares an image with a project; the membership is pending.
func (s *Service) AddMember(ctx context.Context, id, project string) (Member, error) {
	const refusal = "Not allowed to create members"
	if _, err := s.shared(ctx, id, "add_member", refusal); err != nil {
		return Member{}, err
	}
	if project == "" || len(project) > 255 {
		return Member{}, nacre.Errorf(nacre.Invalid, "", "Member can't be empty")
	}
	now := time.Now().UTC()
	m := Member{ID: id + "/" + project, ImageID: id, Project: project, Status: "pending", Created: now, Updated: now}
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		// The image's row is the lock under which members are counted.
		im, err := s.images.GetForUpdate(ctx, id)
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error { return notFound(id) })
		}
		if im.Visibility != "shared" {
			return nacre.Errorf(nacre.Forbidden, "", "%s for image %s.", refusal, id)
		}
		n, err := s.members.Count(ctx, store.Eq("image_id", id))
		if err != nil {
			return err
		}
		if n >= int64(s.c.MaxMembers) {
			return nacre.Errorf(nacre.TooLarge, "", "Image member limit exceeded for image %s: The limit has been exceeded on the number of allowed image members for this image. Attempted: %d, Maximum: %d", id, n+1, s.c.MaxMembers)
		}
		if err := s.members.Insert(ctx, m); err != nil {
			return err
		}
		return s.events.Emit(ctx, "image.member.create", id, im.OwnerID, memberEvent(&m))
	})
	if store.IsDuplicate(err) {
		err = nacre.Errorf(nacre.Conflict, "", "Member %s is duplicated for image %s", project, id)
	}
	return m, err
}

func memberEvent(m *Member) map[string]any {
	return map[string]any{"image_id": m.ImageID, "member_id": m.Project, "status": m.Status, "created_at": m.Created, "updated_at": m.Updated}
}

// SetMember accepts or rejects a membership: the member's own decision.
func (s *Service) SetMember(ctx context.Context, id, project, status string) (Member, error) {
	const refusal = "Not allowed to update members"
	im, err := s.shared(ctx, id, "modify_member", refusal)
	if err != nil {
		return Member{}, err
	}
	if _, err := s.member(ctx, &im, project); err != nil {
		return Member{}, err
	}
	if !slices.Contains(MemberStatuses, status) {
		return Member{}, nacre.Errorf(nacre.Invalid, "", "Incorrect request: Status %s is not one of pending, accepted, rejected.", status)
	}
	var out Member
	err = store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		m, err := s.members.Update(ctx, id+"/"+project, func(m *Member) error {
			m.Status, m.Updated = status, time.Now().UTC()
			return nil
		})
		if err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "", "%s not found in the member list of the image %s.", project, id)
			})
		}
		out = m
		return s.events.Emit(ctx, "image.member.update", id, im.OwnerID, memberEvent(&m))
	})
	return out, err
}

// RemoveMember stops sharing an image with a project.
func (s *Service) RemoveMember(ctx context.Context, id, project string) error {
	im, err := s.shared(ctx, id, "delete_member", "Not allowed to delete members")
	if err != nil {
		return err
	}
	m, err := s.member(ctx, &im, project)
	if err != nil {
		return err
	}
	return store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		if err := s.members.Delete(ctx, m.ID); err != nil {
			return store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.NotFound, "", "%s not found in the member list of the image %s.", project, id)
			})
		}
		return s.events.Emit(ctx, "image.member.delete", id, im.OwnerID, memberEvent(&m))
	})
}
