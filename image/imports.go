package image

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// The import methods.
const (
	GlanceDirect   = "glance-direct"
	WebDownload    = "web-download"
	GlanceDownload = "glance-download"
	CopyImage      = "copy-image"
)

// locationImport is how work names an added location (glance's task type
// location_import).
const locationImport = "location"

// ImportOptions configure imports.
type ImportOptions struct {
	// Methods that are offered; nil offers all that can be served: glance-direct,
	// copy-image, and web-download and glance-download with their edges.
	Methods []string
	// Decompress unpacks what comes as gzip, bzip2 or a zip with one file, unless
	// the container format is "compressed".
	Decompress bool
	// ConvertTo is the disk format that imports are converted to, by
	// Config.Converter: raw, qcow2 or vmdk; empty converts nothing.
	ConvertTo string
	// Inject are properties that imported images get, unless their user holds one
	// of InjectIgnoreRoles.
	Inject            map[string]string
	InjectIgnoreRoles []string
	// RemoteProperties are prefixes of the properties that glance-download takes
	// over; nil means glance's own.
	RemoteProperties []string
	// Timeout ends an import that is not done; 0 means 24 h.
	Timeout time.Duration
}

// ImportRequest is what a user asks for.
type ImportRequest struct {
	Method string
	// URI is web-download's.
	URI string
	// Region, Interface and RemoteID are glance-download's.
	Region, Interface, RemoteID string
	// Stores to import to; empty means the default one. AllStores means each.
	Stores    []string
	AllStores bool
	// SomeStores lets an import succeed that reaches some stores only (glance's
	// all_stores_must_succeed false).
	SomeStores bool
}

// ImportMethods are those offered.
func (s *Service) ImportMethods() []string {
	can := []string{GlanceDirect}
	if s.c.Fetcher != nil {
		can = append(can, WebDownload)
	}
	if s.c.Remote != nil {
		can = append(can, GlanceDownload)
	}
	can = append(can, CopyImage)
	if s.c.Import.Methods == nil {
		return can
	}
	return slices.DeleteFunc(can, func(m string) bool { return !slices.Contains(s.c.Import.Methods, m) })
}

func conflict(format string, args ...any) error {
	return nacre.Errorf(nacre.Conflict, "", format, args...)
}

func invalid(format string, args ...any) error {
	return nacre.Errorf(nacre.Invalid, "", format, args...)
}

var anyUUID = regexp.MustCompile(`^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$`)

// importable says whether an image is in a state for the method.
func importable(im *Image, q *ImportRequest) error {
	switch {
	case im.Status == Active && q.Method != CopyImage:
		return conflict("Image with status active cannot be target for import")
	case im.Status != Active && q.Method == CopyImage:
		return conflict("Only images with status active can be targeted for copying")
	case im.Status != Queued && (q.Method == WebDownload || q.Method == GlanceDownload):
		return conflict("Image needs to be in 'queued' state to use '%s' method", q.Method)
	case q.Method == GlanceDirect && (im.Status != Uploading || !im.Staged):
		return conflict("Image needs to be staged before 'glance-direct' method can be used")
	case im.ContainerFormat == "" && q.Method != GlanceDownload:
		return conflict("'container_format' needs to be set before import")
	case im.DiskFormat == "" && q.Method != GlanceDownload:
		return conflict("'disk_format' needs to be set before import")
	}
	return nil
}

func (s *Service) checkImport(ctx context.Context, q *ImportRequest) error {
	if !slices.Contains(s.ImportMethods(), q.Method) {
		return invalid("Unknown import method name '%s'.", q.Method)
	}
	switch q.Method {
	case WebDownload:
		if err := s.c.Fetcher.Check(ctx, q.URI); err != nil {
			return invalid("URI for web-download does not pass filtering: %s", q.URI)
		}
	case GlanceDownload:
		switch {
		case q.Region == "":
			return invalid("'glance_region' needs to be set for glance-download import method")
		case q.RemoteID == "":
			return invalid("'glance_image_id' needs to be set for glance-download import method")
		case !anyUUID.MatchString(q.RemoteID):
			return invalid("Remote image id does not look like a UUID: %s", q.RemoteID)
		}
		if q.Interface == "" {
			q.Interface = "public"
		}
	}
	return nil
}

// importTargets are the stores that an import writes to.
func (s *Service) importTargets(q *ImportRequest) ([]string, error) {
	if q.AllStores {
		if len(q.Stores) > 0 {
			return nil, invalid("all_stores parameter can't be used with x-image-meta-store header or stores parameter")
		}
		var all []string
		for _, st := range s.c.Stores {
			if !st.ReadOnly {
				all = append(all, st.ID)
			}
		}
		return all, nil
	}
	if len(q.Stores) == 0 {
		return []string{s.c.Stores[0].ID}, nil
	}
	var out []string
	for _, id := range q.Stores {
		st, err := s.target(id)
		if err != nil {
			return nil, conflict("%s", message(err))
		}
		if !slices.Contains(out, st.ID) {
			out = append(out, st.ID)
		}
	}
	return out, nil
}

// Import begins an import; a task tells how it goes. An import that has nothing
// to do has no task.
func (s *Service) Import(ctx context.Context, id string, q ImportRequest) (*Task, error) {
	if err := store.Outside(ctx); err != nil {
		return nil, err
	}
	if err := s.checkImport(ctx, &q); err != nil {
		return nil, err
	}
	rule := "modify_image"
	if q.Method == CopyImage {
		rule = "copy_image"
	}
	im, err := s.get(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := importable(&im, &q); err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, rule, &im); err != nil {
		return nil, err
	}
	targets, err := s.importTargets(&q)
	if err != nil {
		return nil, err
	}
	if q.Method == CopyImage {
		left := slices.DeleteFunc(slices.Clone(targets), func(t string) bool { return im.in(t) != nil })
		if len(left) < len(targets) && !q.AllStores {
			present := slices.IndexFunc(targets, func(t string) bool { return im.in(t) != nil })
			return nil, invalid("Image is already present at store '%s'", targets[present])
		}
		if targets = left; len(targets) == 0 {
			return nil, nil
		}
	}
	task, err := s.newTask(ctx, TaskImport, id, map[string]any{"image_id": id, "import_req": q.public(), "backend": targets})
	if err != nil {
		return nil, err
	}
	if q.Method == GlanceDownload {
		s.asks(task.ID, nacre.CallerFrom(ctx))
	}
	err = s.withLimits(ctx, id, func(ctx context.Context, limits map[string]int64, im *Image) error {
		if err := importable(im, &q); err != nil {
			return err
		}
		if im.ImportTask != "" {
			return conflict("Image has active task")
		}
		if err := s.roomForImport(ctx, limits, im, &q, len(targets)); err != nil {
			return err
		}
		return s.startImport(ctx, im, task, importData{Task: task.ID, Request: q, Targets: targets})
	})
	if err != nil {
		s.asked(task.ID)
		return nil, err
	}
	return &task, nil
}

// asks remembers who asked for an import whose bytes come with the user's own
// rights. The token is kept by this process alone, until it is used.
func (s *Service) asks(task string, c *nacre.Caller) {
	s.mu.Lock()
	s.askers[task] = c
	s.mu.Unlock()
}

// asked gives who asked for an import and forgets it; nil where it is not known here.
func (s *Service) asked(task string) *nacre.Caller {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.askers[task]
	delete(s.askers, task)
	return c
}

// roomForImport counts the quota for what is known of an import.
func (s *Service) roomForImport(ctx context.Context, limits map[string]int64, im *Image, q *ImportRequest, copies int) error {
	switch q.Method {
	case GlanceDirect, CopyImage:
		_, err := s.room(ctx, limits, im, saved, im.Size*int64(copies+len(im.Locations)))
		return err
	}
	_, err := s.room(ctx, limits, im, Uploading, -1)
	return err
}

// startImport puts a task and its work, in the context's transaction.
func (s *Service) startImport(ctx context.Context, im *Image, task Task, d importData) error {
	im.ImportTask, im.ImportingTo, im.Heartbeat = task.ID, d.Targets, time.Now().UTC()
	im.FailedImport = slices.DeleteFunc(slices.Clone(im.FailedImport), func(f string) bool { return slices.Contains(d.Targets, f) })
	if d.Request.Method != CopyImage {
		im.Status = Importing
	}
	for _, l := range im.Locations {
		d.Had = append(d.Had, l.Store)
	}
	if c := nacre.CallerFrom(ctx); c != nil {
		d.Roles = c.Roles
	}
	if err := s.tasks.Insert(ctx, task); err != nil {
		return err
	}
	step := map[string]string{GlanceDirect: "transform", WebDownload: "fetch", GlanceDownload: "fetch", CopyImage: "store", locationImport: "locate"}[d.Request.Method]
	within := s.c.Import.Timeout
	if within == 0 {
		within = 24 * time.Hour
	}
	return s.work.Put(ctx, kindImport, im.ID, reconcile.Begin{Step: step, Within: within, Data: d})
}

// public is the request as a task shows it.
func (q ImportRequest) public() map[string]any {
	method := map[string]any{"name": q.Method}
	for k, v := range map[string]string{"uri": q.URI, "glance_region": q.Region, "glance_service_interface": q.Interface, "glance_image_id": q.RemoteID} {
		if v != "" {
			method[k] = v
		}
	}
	out := map[string]any{"method": method, "all_stores_must_succeed": !q.SomeStores}
	if len(q.Stores) > 0 {
		out["stores"] = q.Stores
	}
	if q.AllStores {
		out["all_stores"] = true
	}
	return out
}

// remoteProperties reports whether glance-download takes a property over.
func (o *ImportOptions) takesProperty(name string) bool {
	prefixes := o.RemoteProperties
	if prefixes == nil {
		prefixes = []string{"hw_", "trait:", "os_distro", "os_secure_boot", "os_type"}
	}
	return !strings.HasPrefix(name, reservedPrefix) && slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// reservedPrefix begins the names of properties that are glance's own.
const reservedPrefix = "os_glance"
