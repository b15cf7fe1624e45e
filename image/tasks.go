package image

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// The types of tasks.
const (
	TaskImport   = "api_image_import"
	TaskLocation = "location_import"
	// TaskLegacy is what POST /v2/tasks makes: an image from a URL.
	TaskLegacy = "import"
)

// Task tells how an import goes. It is kept for Config.TaskTTL after its end.
type Task struct {
	ID      string `store:"id,pk"`
	Type    string `store:"type"`
	Status  string `store:"status"` // pending, processing, success, failure
	OwnerID string `store:"owner,index=image_task_owner"`
	ImageID string `store:"image_id,index=image_task_image"`
	UserID  string `store:"user_id"`
	// RequestID is the request that began it.
	RequestID string         `store:"request_id"`
	Input     map[string]any `store:"input,json"`
	Result    map[string]any `store:"result,json"`
	Message   string         `store:"message"`
	Expires   time.Time      `store:"expires_at,null"`
	Created   time.Time      `store:"created_at,index=image_task_created"`
	Updated   time.Time      `store:"updated_at"`
}

const kindTask = "task"

func (s *Service) newTask(ctx context.Context, typ, imageID string, input map[string]any) (Task, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return Task{}, err
	}
	now := time.Now().UTC()
	return Task{ID: s.c.IDs.NewID(), Type: typ, Status: "pending", OwnerID: c.ProjectID, ImageID: imageID, UserID: c.UserID, RequestID: c.RequestID,
		Input: input, Created: now, Updated: now}, nil
}

// endTask settles a task, in the context's transaction.
func (s *Service) endTask(ctx context.Context, id, status, msg string) error {
	s.asked(id)
	t, err := s.tasks.Update(ctx, id, func(t *Task) error {
		t.Status, t.Message, t.Updated = status, msg, time.Now().UTC()
		t.Expires = t.Updated.Add(s.c.TaskTTL)
		if status == "success" {
			t.Result = map[string]any{"image_id": t.ImageID}
		}
		return nil
	})
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.work.Put(ctx, kindTask, id, reconcile.Begin{Step: "expire", After: s.c.TaskTTL}); err != nil {
		return err
	}
	return s.events.Emit(ctx, "task."+status, id, t.OwnerID, map[string]any{"id": id, "type": t.Type, "status": t.Status, "image_id": t.ImageID, "message": msg})
}

// taskHandler removes what has expired.
func (s *Service) taskHandler() reconcile.Handler {
	drop := func(ctx context.Context, j *reconcile.Job) error {
		return j.Tx(ctx, func(ctx context.Context) error {
			_, err := s.tasks.DeleteWhere(ctx, store.Eq("id", j.ObjectID))
			return err
		})
	}
	return reconcile.Handler{
		Steps: map[string]reconcile.Step{"expire": func(ctx context.Context, j *reconcile.Job) (reconcile.Next, error) {
			return reconcile.Done(), drop(ctx, j)
		}},
		Expire: func(ctx context.Context, j *reconcile.Job, _ error) error { return drop(ctx, j) },
	}
}

// Task shows a task to those who may use the tasks API.
func (s *Service) Task(ctx context.Context, id string) (Task, error) {
	if err := s.taskAccess(ctx, "get_task"); err != nil {
		return Task{}, err
	}
	t, err := s.tasks.Get(ctx, id)
	if err == nil && t.OwnerID != nacre.CallerFrom(ctx).ProjectID && !s.isAdmin(ctx) {
		err = store.ErrNoRow
	}
	return t, store.WrapNotFound(err, func() *nacre.Error {
		return nacre.Errorf(nacre.NotFound, "", "No task found with ID %s", id)
	})
}

func (s *Service) taskAccess(ctx context.Context, rule string) error {
	if _, err := s.caller(ctx); err != nil {
		return err
	}
	if err := s.c.Policy.Enforce(ctx, "tasks_api_access", policy.Map{}); err != nil {
		return err
	}
	return s.c.Policy.Enforce(ctx, rule, policy.Map{})
}

var taskSort = []string{"created_at", "expires_at", "id", "status", "type", "updated_at"}

// Tasks lists tasks: all for an administrator, else the caller's project's.
func (s *Service) Tasks(ctx context.Context, q nacre.Query) ([]Task, error) {
	if err := s.taskAccess(ctx, "get_tasks"); err != nil {
		return nil, err
	}
	visible := store.All()
	if !s.isAdmin(ctx) {
		visible = store.Eq("owner", nacre.CallerFrom(ctx).ProjectID)
	}
	ws := []store.Where{visible}
	for _, f := range q.Filters {
		switch f.Name {
		case "status":
			if !slices.Contains([]string{"pending", "processing", "success", "failure"}, f.Value) {
				return nil, invalid("Invalid status value: %s", f.Value)
			}
		case "type":
			if f.Value != TaskLegacy {
				return nil, invalid("Invalid type value: %s", f.Value)
			}
		case "owner", "image_id", "user_id", "request_id":
		default:
			continue
		}
		ws = append(ws, store.Eq(f.Name, f.Value))
	}
	order := []store.Order{}
	for _, k := range q.Sort {
		if !slices.Contains(taskSort, k.Field) {
			return nil, invalid("Invalid sort key: %s. It must be one of the following: %s.", k.Field, strings.Join(taskSort, ", "))
		}
		order = append(order, store.Order{Column: k.Field, Desc: k.Desc})
	}
	if len(order) == 0 {
		order = append(order, store.Order{Column: "created_at", Desc: true})
	}
	ts, err := s.tasks.Page(ctx, store.Select{Where: store.And(ws...), Order: order, Limit: q.Limit}, q.Marker, visible)
	if errors.Is(err, store.ErrNoRow) {
		return nil, invalid("Invalid marker: %s could not be found.", q.Marker)
	}
	return ts, err
}

// ImageTasks lists the tasks of an image that the caller may see.
func (s *Service) ImageTasks(ctx context.Context, id string) ([]Task, error) {
	if _, err := s.get(ctx, id); err != nil {
		return nil, err
	}
	return s.tasks.Select(ctx, store.Select{Where: store.Eq("image_id", id), Order: []store.Order{{Column: "created_at"}}})
}

// CreateTask makes an image from a URL: the old import API. im is the image as
// image_properties describe it.
func (s *Service) CreateTask(ctx context.Context, typ string, input map[string]any, from string, im Image) (Task, error) {
	if err := store.Outside(ctx); err != nil {
		return Task{}, err
	}
	if err := s.taskAccess(ctx, "add_task"); err != nil {
		return Task{}, err
	}
	if typ != TaskLegacy {
		return Task{}, invalid("Provided object does not match schema 'task': '%s' is not one of ['import']", typ)
	}
	if s.c.Fetcher == nil {
		return Task{}, invalid("Importing images from URLs is not enabled.")
	}
	if err := s.c.Fetcher.Check(ctx, from); err != nil {
		return Task{}, err
	}
	made, err := s.Create(ctx, im)
	if err != nil {
		return Task{}, err
	}
	task, err := s.newTask(ctx, typ, made.ID, input)
	if err != nil {
		return Task{}, err
	}
	q := ImportRequest{Method: WebDownload, URI: from}
	targets, err := s.importTargets(&q)
	if err != nil {
		return Task{}, err
	}
	err = s.withLimits(ctx, made.ID, func(ctx context.Context, limits map[string]int64, im *Image) error {
		if err := s.roomForImport(ctx, limits, im, &q, 1); err != nil {
			return err
		}
		return s.startImport(ctx, im, task, importData{Task: task.ID, Request: q, Targets: targets, Made: true})
	})
	if err != nil {
		return Task{}, errors.Join(err, s.Delete(ctx, made.ID))
	}
	return task, nil
}
