package compute

import (
	"context"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
	"github.com/nacre-cloud/nacre/internal/policy"
	"github.com/nacre-cloud/nacre/internal/reconcile"
	"github.com/nacre-cloud/nacre/store"
)

// NewServer is a request for servers.
type NewServer struct {
	Name, Description, Hostname string
	ImageID, FlavorID           string
	KeyName                     string
	// UserData is base64, at most 65,535 characters.
	UserData         string
	ConfigDrive      bool
	Metadata         map[string]string
	Tags             []string
	Networks         NetworkRequest
	AvailabilityZone string
	// Host asks for one host (2.74, or "zone:host"); administrators only.
	Host       string
	DiskConfig string
	// Min and Max are how many are wanted; 0 means 1.
	Min, Max int
	// Injected are files for the config drive.
	Injected               []InjectedFile
	AccessIPv4, AccessIPv6 string
	// GroupID is the server group to join (the scheduler hint "group").
	GroupID string
	// VolumeForm is set when the request had a block device that is a volume or
	// makes one; there is no block storage here to serve it.
	VolumeForm bool
}

// maxServers bounds one request, whatever the quota allows: its rows are one
// transaction.
const maxServers = 1000

// CreateServers accepts servers to be built: rows, quota and work in one
// transaction. What the user named (image, flavor, key, networks) is checked
// with the user's own rights before.
func (s *Service) CreateServers(ctx context.Context, n NewServer) ([]Server, error) {
	c, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enforce(ctx, "os_compute_api:servers:create", nil); err != nil {
		return nil, err
	}
	if n.Networks.Mode == "list" && len(n.Networks.NICs) > 0 {
		if err := s.enforce(ctx, "os_compute_api:servers:create:attach_network", nil); err != nil {
			return nil, err
		}
	}
	if err := s.checkNewServer(ctx, &n); err != nil {
		return nil, err
	}
	proto, err := s.prototype(ctx, c, n)
	if err != nil {
		return nil, err
	}
	n.Networks.ProjectID, n.Networks.Servers = c.ProjectID, n.Max
	if proto.Plan, err = s.c.Networks.Check(ctx, n.Networks); err != nil {
		return nil, err
	}
	return s.acceptServers(ctx, c, n, proto)
}

func (s *Service) checkNewServer(ctx context.Context, n *NewServer) error {
	n.Min = max(n.Min, 1)
	n.Max = max(n.Max, n.Min)
	if n.Min > maxServers {
		return nacre.Errorf(nacre.Invalid, "", "At most %d servers can be made at once.", maxServers)
	}
	n.Max = min(n.Max, maxServers)
	if n.Hostname != "" && n.Max > 1 {
		return nacre.Errorf(nacre.Invalid, "AmbiguousHostnameForMultipleInstances", "Unable to allocate a single hostname to multiple instances")
	}
	if n.VolumeForm {
		return nacre.Errorf(nacre.Invalid, "InvalidBDM", "Block Device Mapping is Invalid: no block storage service serves volumes in this cloud.")
	}
	if len(n.UserData) > 65535 {
		return nacre.Errorf(nacre.Invalid, "", "Invalid input for field/attribute user_data. User data is too long")
	}
	if _, err := base64.StdEncoding.DecodeString(n.UserData); err != nil {
		return nacre.Errorf(nacre.Invalid, "InstanceUserDataMalformed", "User data needs to be valid base 64.")
	}
	if zone, host, ok := strings.Cut(n.AvailabilityZone, ":"); ok {
		if err := s.enforce(ctx, "os_compute_api:servers:create:forced_host", policy.Map{}); err != nil {
			return err
		}
		n.AvailabilityZone, n.Host = zone, host
	} else if n.Host != "" {
		if err := s.enforce(ctx, "compute:servers:create:requested_destination", policy.Map{}); err != nil {
			return err
		}
		known, err := s.hosts.Exists(ctx, store.Eq("name", n.Host))
		if err != nil {
			return err
		}
		if !known {
			return nacre.Errorf(nacre.Invalid, "ComputeHostNotFound", "Compute host %s could not be found.", n.Host)
		}
	}
	if n.AvailabilityZone != "" {
		known, err := s.hosts.Exists(ctx, store.Eq("zone", n.AvailabilityZone))
		if err != nil {
			return err
		}
		if !known {
			return nacre.Errorf(nacre.Invalid, "InvalidInput", "The requested availability zone is not available")
		}
	}
	return nil
}

// prototype resolves what the user named into a row that all of the request's
// servers share.
func (s *Service) prototype(ctx context.Context, c *nacre.Caller, n NewServer) (Server, error) {
	p := Server{ProjectID: c.ProjectID, UserID: c.UserID, Description: n.Description, VMState: VMBuilding, TaskState: TaskScheduling,
		RequestedZone: n.AvailabilityZone, RequestedHost: n.Host, KeyName: n.KeyName, UserData: n.UserData, ConfigDrive: n.ConfigDrive,
		Metadata: n.Metadata, Tags: n.Tags, DiskConfig: n.DiskConfig, Injected: n.Injected,
		AccessIPv4: n.AccessIPv4, AccessIPv6: n.AccessIPv6, GroupID: n.GroupID, ReservationID: "r-" + shortID(s.c.IDs.NewID())}
	if p.Metadata == nil {
		p.Metadata = map[string]string{}
	}
	if p.Tags == nil {
		p.Tags = []string{}
	}
	if p.DiskConfig == "" {
		p.DiskConfig = "AUTO"
	}
	f, err := s.Flavor(ctx, n.FlavorID)
	if err != nil {
		if nacre.KindOf(err) == nacre.NotFound {
			err = nacre.Errorf(nacre.Invalid, "FlavorNotFound", "Flavor %s could not be found.", n.FlavorID)
		}
		return p, err
	}
	p.Flavor, p.FlavorID = f, f.ID
	p.VCPUs, p.RAM, p.Disk = int64(f.VCPUs), int64(f.RAM), int64(f.Disk+f.Ephemeral)
	if n.KeyName != "" {
		k, err := s.keypairs.Get(ctx, c.UserID+"/"+n.KeyName)
		if err != nil {
			return p, store.WrapNotFound(err, func() *nacre.Error {
				return nacre.Errorf(nacre.Invalid, "KeypairNotFound", "Invalid key_name provided.")
			})
		}
		p.KeyType, p.KeyData = k.Type, k.PublicKey
	}
	if n.ImageID == "" {
		return p, nacre.Errorf(nacre.Invalid, "InvalidBDM", "Invalid image reference: an image is needed to boot from.")
	}
	img, err := s.c.Images.Image(ctx, n.ImageID)
	if err != nil {
		if nacre.KindOf(err) == nacre.NotFound {
			err = nacre.Errorf(nacre.Invalid, "ImageNotFound", "Can not find requested image")
		}
		return p, err
	}
	if err := fitsImage(img, f); err != nil {
		return p, err
	}
	p.ImageID = img.ID
	p.ImageInfo = hypervisor.Image{ID: img.ID, Format: img.DiskFormat, Size: img.Size, Hash: img.Hash}
	p.ImageMeta = img.Properties
	if img.Properties["img_config_drive"] == "mandatory" {
		p.ConfigDrive = true
	}
	return p, nil
}

const gib = 1 << 30

func fitsImage(img Image, f Flavor) error {
	switch {
	case img.Status != "active":
		return nacre.Errorf(nacre.Invalid, "ImageNotActive", "Image %s is not active.", img.ID)
	case img.MinRAM > f.RAM:
		return nacre.Errorf(nacre.Invalid, "FlavorMemoryTooSmall", "Flavor's memory is too small for requested image.")
	case f.Disk > 0 && img.MinDisk > f.Disk:
		return nacre.Errorf(nacre.Invalid, "FlavorDiskSmallerThanMinDisk", "The created instance's disk would be too small: flavor's disk is %d bytes, minimum is %d bytes.", int64(f.Disk)*gib, int64(img.MinDisk)*gib)
	case f.Disk > 0 && max(img.Size, img.VirtualSize) > int64(f.Disk)*gib:
		return nacre.Errorf(nacre.Invalid, "FlavorDiskSmallerThanImage", "Flavor's disk is too small for requested image. Flavor disk is %d bytes, image is %d bytes.", int64(f.Disk)*gib, max(img.Size, img.VirtualSize))
	case img.DiskFormat != "raw" && img.DiskFormat != "qcow2":
		return nacre.Errorf(nacre.Invalid, "ImageUnacceptable", "Image %s is unacceptable: no hypervisor here boots from format %s.", img.ID, img.DiskFormat)
	}
	return nil
}

func (s *Service) acceptServers(ctx context.Context, c *nacre.Caller, n NewServer, proto Server) ([]Server, error) {
	var out []Server
	err := store.InTx(ctx, s.c.Engine, func(ctx context.Context) error {
		out = nil
		count, err := s.reserve(ctx, c.ProjectID, proto.Flavor, n)
		if err != nil {
			return err
		}
		if n.GroupID != "" {
			if err := s.joinGroup(ctx, n.GroupID, c.ProjectID, count); err != nil {
				return err
			}
		}
		now := time.Now().UTC()
		for i := range count {
			sv := proto
			sv.ID, sv.LaunchIndex, sv.Created, sv.Updated = s.c.IDs.NewID(), i, now, now
			sv.Name = n.Name
			if count > 1 {
				sv.Name = fmt.Sprintf("%s-%d", n.Name, i+1)
			}
			sv.Hostname = n.Hostname
			if sv.Hostname == "" {
				sv.Hostname = hostnameOf(sv.Name, sv.ID)
			}
			out = append(out, sv)
		}
		if err := s.servers.Insert(ctx, out...); err != nil {
			return err
		}
		for i := range out {
			if err := s.putTags(ctx, out[i].ID, out[i].Tags); err != nil {
				return err
			}
			if err := s.beginAction(ctx, out[i], "create"); err != nil {
				return err
			}
			if err := s.work.Put(ctx, kindServer, out[i].ID, reconcile.Begin{Step: "schedule", Within: s.c.BuildTimeout}); err != nil {
				return err
			}
			if err := s.emit(ctx, "compute.instance.create.start", out[i].ID, c.ProjectID, eventOf(&out[i])); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// reserve counts the project's use under its lock and says how many of the
// wanted servers fit.
func (s *Service) reserve(ctx context.Context, project string, f Flavor, n NewServer) (int, error) {
	if err := s.quota.Lock(ctx, project); err != nil {
		return 0, err
	}
	limits, err := s.quota.Limits(ctx, project)
	if err != nil {
		return 0, err
	}
	if l := limits["metadata_items"]; l >= 0 && int64(len(n.Metadata)) > l {
		return 0, nacre.Errorf(nacre.QuotaExceeded, "MetadataLimitExceeded", "Maximum number of metadata items exceeds %d", l)
	}
	if err := injectedFit(n.Injected, limits); err != nil {
		return 0, err
	}
	used, err := s.usage(ctx, project)
	if err != nil {
		return 0, err
	}
	// As many as fit, at most what is wanted.
	one := map[string]int64{"instances": 1, "cores": int64(f.VCPUs), "ram": int64(f.RAM)}
	count := int64(n.Max)
	for _, r := range []string{"cores", "instances", "ram"} {
		l := limits[r]
		if l < 0 || one[r] == 0 {
			continue
		}
		if fit := max(l-used[r], 0) / one[r]; fit < int64(n.Min) {
			return 0, nacre.Errorf(nacre.QuotaExceeded, "TooManyInstances", "Quota exceeded for %s: Requested %d, but already used %d of %d %s",
				r, one[r]*int64(n.Min), used[r], l, r)
		} else if fit < count {
			count = fit
		}
	}
	return int(count), nil
}

// injectedFit holds injected files to their quota.
func injectedFit(files []InjectedFile, limits map[string]int64) error {
	if l := limits["injected_files"]; l >= 0 && int64(len(files)) > l {
		return nacre.Errorf(nacre.QuotaExceeded, "OnsetFileLimitExceeded", "Personality file limit exceeded")
	}
	for _, f := range files {
		if l := limits["injected_file_path_bytes"]; l >= 0 && int64(len(f.Path)) > l {
			return nacre.Errorf(nacre.QuotaExceeded, "OnsetFilePathLimitExceeded", "Personality file path exceeds maximum %d", l)
		}
		if l := limits["injected_file_content_bytes"]; l >= 0 && int64(len(f.Content)) > l {
			return nacre.Errorf(nacre.QuotaExceeded, "OnsetFileContentLimitExceeded", "Personality file content exceeds maximum %d", l)
		}
	}
	return nil
}

// usage counts what a project's servers take.
func (s *Service) usage(ctx context.Context, project string) (map[string]int64, error) {
	gs, err := s.servers.Aggregate(ctx, store.Aggregate{Where: store.And(store.Eq("project_id", project), store.Eq("deleted", false)), Sum: []string{"vcpus", "ram"}})
	if err != nil {
		return nil, err
	}
	return map[string]int64{"instances": gs[0].Count, "cores": gs[0].Sums[0], "ram": gs[0].Sums[1]}, nil
}

var notHostname = regexp.MustCompile(`[^a-z0-9-]+`)

// hostnameOf makes a DNS label of a display name, as nova does; a name with
// nothing usable in it becomes "Server-<id>".
func hostnameOf(name, id string) string {
	h := strings.ToLower(strings.NewReplacer(" ", "-", "_", "-").Replace(name))
	h = strings.Trim(notHostname.ReplaceAllString(h, ""), "-")
	if h == "" {
		return "server-" + id
	}
	if len(h) > 63 {
		h = strings.TrimRight(h[:63], "-")
	}
	return h
}

func shortID(id string) string {
	id = strings.ReplaceAll(id, "-", "")
	if len(id) > 8 {
		id = id[:8]
	}
	return id
}

// eventOf is the payload of a server's events.
func eventOf(sv *Server) map[string]any {
	return map[string]any{
		"instance_id": sv.ID, "tenant_id": sv.ProjectID, "user_id": sv.UserID, "display_name": sv.Name, "host": sv.Host, "state": sv.VMState,
		"instance_type": sv.Flavor.Name, "instance_flavor_id": sv.FlavorID, "memory_mb": sv.Flavor.RAM, "vcpus": sv.Flavor.VCPUs, "disk_gb": sv.Flavor.Disk,
		"root_gb": sv.Flavor.Disk, "ephemeral_gb": sv.Flavor.Ephemeral, "image_ref_url": sv.ImageID, "created_at": sv.Created, "launched_at": sv.Launched, "metadata": sv.Metadata,
	}
}
