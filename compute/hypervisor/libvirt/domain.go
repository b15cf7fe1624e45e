package libvirt

import (
	"encoding/xml"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/nacre-cloud/nacre"
	"github.com/nacre-cloud/nacre/compute/hypervisor"
)

// machine is what the host offers guests.
type machine struct {
	// domain is libvirt's domain type: "kvm", "qemu" or (its mock driver) "test".
	domain   string
	emulator string
	arch     string
	// hostModel says that the host-model CPU mode is offered.
	hostModel bool
}

// The metadata elements: ours marks a domain as ours, Nova's is for tools that
// know it.
const (
	ownNamespace  = "https://nacre.cloud/xmlns/instance/1.0"
	novaNamespace = "http://openstack.org/xmlns/libvirt/nova/1.1"
)

type ownMetadata struct {
	XMLName xml.Name `xml:"nacre:instance"`
	NS      string   `xml:"xmlns:nacre,attr"`
	ID      string   `xml:"nacre:id"`
}

type novaMetadata struct {
	XMLName xml.Name `xml:"nova:instance"`
	NS      string   `xml:"xmlns:nova,attr"`
	Package struct {
		Version string `xml:"version,attr"`
	} `xml:"nova:package"`
	Name   string     `xml:"nova:name"`
	Flavor novaFlavor `xml:"nova:flavor"`
	Owner  struct {
		User    novaID `xml:"nova:user"`
		Project novaID `xml:"nova:project"`
	} `xml:"nova:owner"`
	Root struct {
		Type string `xml:"type,attr"`
		UUID string `xml:"uuid,attr"`
	} `xml:"nova:root"`
}

type novaFlavor struct {
	Name      string `xml:"name,attr"`
	Memory    int    `xml:"nova:memory"`
	Disk      int    `xml:"nova:disk"`
	Swap      int    `xml:"nova:swap"`
	Ephemeral int    `xml:"nova:ephemeral"`
	VCPUs     int    `xml:"nova:vcpus"`
}

type novaID struct {
	UUID string `xml:"uuid,attr"`
}

func metadataXML(s hypervisor.Spec) (string, error) {
	own, err := xml.Marshal(ownMetadata{NS: ownNamespace, ID: s.ID})
	if err != nil {
		return "", err
	}
	n := novaMetadata{NS: novaNamespace, Name: printable(s.DisplayName),
		Flavor: novaFlavor{printable(s.FlavorName), s.MemoryMB, s.RootGB, s.SwapMB, s.EphemeralGB, s.VCPUs}}
	n.Package.Version = smbiosVersion
	n.Owner.User.UUID, n.Owner.Project.UUID = s.UserID, s.ProjectID
	n.Root.Type, n.Root.UUID = "image", s.ImageID
	nova, err := xml.Marshal(n)
	return string(own) + string(nova), err
}

// isOurs reports whether a domain's XML carries our mark for the id.
func isOurs(domainXML, id string) bool {
	var d struct {
		Metadata struct {
			XML string `xml:",innerxml"`
		} `xml:"metadata"`
	}
	if xml.Unmarshal([]byte(domainXML), &d) != nil {
		return false
	}
	dec := xml.NewDecoder(strings.NewReader("<m>" + d.Metadata.XML + "</m>"))
	inOwn := false
	for {
		t, err := dec.Token()
		if err != nil {
			return false // the end, or no XML
		}
		start, ok := t.(xml.StartElement)
		if !ok || start.Name.Space != ownNamespace {
			continue
		}
		switch start.Name.Local {
		case "instance":
			inOwn = true
		case "id":
			var got string
			return inOwn && dec.DecodeElement(&got, &start) == nil && got == id
		}
	}
}

// printable drops what XML 1.0 can't carry.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0xfffe || r == 0xffff {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// smbiosVersion is what guests see as the product's version.
const smbiosVersion = "31.0.0"

// sysinfo is what cloud-init's ds-identify and other guests look at.
func sysinfo(id string) libvirtxml.DomainSysInfo {
	return libvirtxml.DomainSysInfo{SMBIOS: &libvirtxml.DomainSysInfoSMBIOS{System: &libvirtxml.DomainSysInfoSystem{
		Entry: []libvirtxml.DomainSysInfoEntry{
			{Name: "manufacturer", Value: "OpenStack Foundation"},
			{Name: "product", Value: "OpenStack Nova"},
			{Name: "version", Value: smbiosVersion},
			{Name: "serial", Value: id},
			{Name: "uuid", Value: id},
			{Name: "family", Value: "Virtual Machine"},
		}}}}
}

// hardware is what image properties choose.
type hardware struct {
	machine, diskBus, nicModel string
}

// chooseHardware reads the image's hw_* properties; what we don't serve is
// nacre.Invalid, never silently something else.
func chooseHardware(props map[string]string) (hardware, error) {
	h := hardware{machine: "q35", diskBus: "virtio", nicModel: "virtio"}
	pick := func(name string, to *string, allowed ...string) error {
		v, ok := props[name]
		if !ok {
			return nil
		}
		for _, a := range allowed {
			if v == a {
				*to = v
				return nil
			}
		}
		return nacre.Errorf(nacre.Invalid, "ImageProperty", "The image's property %s=%s is not supported on this host (%s).", name, v, strings.Join(allowed, ", "))
	}
	if err := pick("hw_disk_bus", &h.diskBus, "virtio", "scsi", "sata", "ide"); err != nil {
		return h, err
	}
	if err := pick("hw_vif_model", &h.nicModel, "virtio", "e1000", "e1000e", "rtl8139"); err != nil {
		return h, err
	}
	if h.diskBus == "ide" {
		h.machine = "pc"
	}
	if v := props["hw_machine_type"]; v != "" {
		switch {
		case v == "pc" || strings.HasPrefix(v, "pc-i440fx"):
			h.machine = v
		case (v == "q35" || strings.HasPrefix(v, "pc-q35")) && h.diskBus != "ide":
			h.machine = v
		default:
			return h, nacre.Errorf(nacre.Invalid, "ImageProperty", "The image's property hw_machine_type=%s is not supported on this host.", v)
		}
	}
	return h, nil
}

// domainXML is the definition of a server's domain; file says where its disks lie.
func domainXML(s hypervisor.Spec, m machine, file func(name string) string, has func(name string) bool) (string, error) {
	meta, err := metadataXML(s)
	if err != nil {
		return "", err
	}
	hw, err := chooseHardware(s.ImageProperties)
	if err != nil {
		return "", err
	}
	d := &libvirtxml.Domain{
		Type: m.domain, Name: s.Name, UUID: s.ID, Metadata: &libvirtxml.DomainMetadata{XML: meta},
		Memory: &libvirtxml.DomainMemory{Value: uint(s.MemoryMB), Unit: "MiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: uint(s.VCPUs)},
		OS: &libvirtxml.DomainOS{
			Type:        &libvirtxml.DomainOSType{Arch: m.arch, Type: "hvm"},
			BootDevices: []libvirtxml.DomainBootDevice{{Dev: "hd"}},
			SMBios:      &libvirtxml.DomainSMBios{Mode: "sysinfo"},
		},
		SysInfo:  []libvirtxml.DomainSysInfo{sysinfo(s.ID)},
		Features: &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}},
		Clock: &libvirtxml.DomainClock{Offset: "utc", Timer: []libvirtxml.DomainTimer{
			{Name: "pit", TickPolicy: "delay"}, {Name: "rtc", TickPolicy: "catchup"}, {Name: "hpet", Present: "no"},
		}},
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
		Devices: &libvirtxml.DomainDeviceList{Emulator: m.emulator},
	}
	if d.Name == "" {
		d.Name = "instance-" + s.ID
	}
	switch {
	case m.domain == "kvm" && m.hostModel:
		d.CPU = &libvirtxml.DomainCPU{Mode: "host-model"}
	case m.domain == "kvm":
		d.CPU = &libvirtxml.DomainCPU{Mode: "host-passthrough"}
	case m.domain == "qemu":
		// Emulation has the features of this model at any libvirt version.
		d.CPU = &libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Model: &libvirtxml.DomainCPUModel{Value: "Nehalem"}}
	}
	if m.domain != "test" {
		d.OS.Type.Machine = hw.machine
	}
	addDisks(d, s, hw, file, has)
	for _, n := range s.NICs {
		addNIC(d, n, hw)
	}
	if m.domain != "test" {
		addConsoles(d, file(consoleFile))
	}
	return d.Marshal()
}

func addDisks(d *libvirtxml.Domain, s hypervisor.Spec, hw hardware, file func(string) string, has func(string) bool) {
	prefix, count := map[string]string{"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd"}[hw.diskBus], 0
	add := func(name, format string, readOnly bool, serial string) {
		disk := libvirtxml.DomainDisk{
			Device: "disk",
			Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: format, Cache: "none", Discard: "unmap"},
			Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: file(name)}},
			Target: &libvirtxml.DomainDiskTarget{Dev: fmt.Sprintf("%s%c", prefix, 'a'+count), Bus: hw.diskBus},
			Serial: serial,
		}
		if readOnly {
			disk.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
			disk.Driver.Cache, disk.Driver.Discard = "", ""
		}
		count++
		d.Devices.Disks = append(d.Devices.Disks, disk)
	}
	add(rootFile, "qcow2", false, "")
	if has(ephemeralFile) {
		add(ephemeralFile, "raw", false, "ephemeral0")
	}
	if has(swapFile) {
		add(swapFile, "raw", false, "swap")
	}
	// A disk, not a CD-ROM: guests find it by its label on any bus, and the one
	// bus that every cloud image has a driver for is the root disk's.
	if has(configFile) {
		add(configFile, "raw", true, "config-2")
	}
	if hw.diskBus == "scsi" {
		zero := uint(0)
		d.Devices.Controllers = append(d.Devices.Controllers, libvirtxml.DomainController{Type: "scsi", Index: &zero, Model: "virtio-scsi"})
	}
}

func addNIC(d *libvirtxml.Domain, n hypervisor.NIC, hw hardware) {
	nic := libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
		Source: &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}},
		Target: &libvirtxml.DomainInterfaceTarget{Dev: hypervisor.TapName(n.PortID)},
		Model:  &libvirtxml.DomainInterfaceModel{Type: hw.nicModel},
		// No network boot: its ROM costs boot time.
		ROM: &libvirtxml.DomainROM{Enabled: "no"},
	}
	if n.MTU > 0 {
		nic.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(n.MTU)}
	}
	d.Devices.Interfaces = append(d.Devices.Interfaces, nic)
}

func addConsoles(d *libvirtxml.Domain, log string) {
	port := uint(0)
	d.Devices.Serials = []libvirtxml.DomainSerial{{
		Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
		Target: &libvirtxml.DomainSerialTarget{Port: &port},
		// virtlogd bounds the log's size.
		Log: &libvirtxml.DomainChardevLog{File: log, Append: "off"},
	}}
	d.Devices.Graphics = []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{
		AutoPort: "yes", Listeners: []libvirtxml.DomainGraphicListener{{Address: &libvirtxml.DomainGraphicListenerAddress{Address: "127.0.0.1"}}},
	}}}
	d.Devices.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "vga"}}}
	d.Devices.RNGs = []libvirtxml.DomainRNG{{Model: "virtio", Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}}}}
	d.Devices.MemBalloon = &libvirtxml.DomainMemBalloon{Model: "virtio"}
}
