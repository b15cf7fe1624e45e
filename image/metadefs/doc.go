// Package metadefs is Glance's metadata definitions catalog: namespaces that say
// which properties images, volumes, flavors and the like may have, and what the
// properties mean. Dashboards and CLIs read it; nothing enforces it.
//
// It is a sub-area of image with its own service, tables and policy; the two share
// one Engine. A namespace holds objects (groups of properties), properties, tags,
// and associations with resource types, which say under which prefix the
// properties go to what. A private namespace is its owner's; a public one is seen
// by all. Changes are the administrator's, unless policy says otherwise. A
// protected namespace is not deleted.
//
// Load reads definitions from files in Glance's own format (etc/metadefs), as
// glance-manage db_load_metadefs does.
package metadefs
