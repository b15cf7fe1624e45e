// Package setup reads image's settings from a YAML file, under the names and with
// the units that they have in glance-api.conf, and the stores in a list. All of it
// may be left out:
//
//	stores:                                # the first is the default, or default_backend
//	  - name: fast
//	    type: file                         # the types are those that a program links
//	    store_description: on flash
//	    weight: 10                         # downloads prefer the heavier
//	    filesystem_store_datadir: /srv/images
//	  - name: cold
//	    type: s3
//	    s3_store_host: https://s3.example.org
//	    s3_store_access_key: key
//	    s3_store_secret_key_file: s3-key   # or s3_store_secret_key
//	    s3_store_bucket: glance
//	    s3_store_create_bucket_on_put: true
//	    s3_store_large_object_chunk_size: 16       # MiB
//	  - name: objects
//	    type: swift
//	    swift_store_auth_address: https://keystone.example.org/v3
//	    swift_store_user: service:glance
//	    swift_store_key_file: swift-key    # or swift_store_key
//	    swift_store_container: glance
//	    swift_store_create_container_on_put: true
//	  - name: ceph
//	    type: rbd                          # in programs that are built with it
//	    rbd_store_ceph_conf: /etc/ceph/ceph.conf
//	    rbd_store_user: glance
//	    rbd_store_pool: images
//	  - {name: web, type: http}            # read-only: locations that users give
//	glance_store:
//	  default_backend: fast
//	default:
//	  image_size_cap: 1099511627776        # bytes
//	  image_property_quota: 128            # -1 is no bound, here and below
//	  image_tag_quota: 128
//	  image_member_quota: 128
//	  image_location_quota: 10
//	  limit_param_default: 25              # what a list shows that is not told how many
//	  api_limit_max: 1000
//	  user_storage_quota: 500GB            # bytes, or with B, KB, MB, GB, TB
//	  use_keystone_limits: true            # the unified limits of identity, where there are some
//	  show_image_direct_url: false
//	  show_multiple_locations: false
//	  do_secure_hash: true
//	  enabled_import_methods: [glance-direct, web-download, glance-download, copy-image]
//	  property_protection_file: property-protections.conf
//	  property_protection_rule_format: roles       # or policies
//	  delayed_delete: false
//	  scrub_time: 0                        # seconds
//	  metadata_source_path: metadefs       # definitions to load at the start
//	  image_cache_dir: /var/cache/images
//	  image_cache_max_size: 10737418240    # bytes
//	  image_cache_on_download: true        # as glance with the caching middleware
//	  upload_timeout: 60                   # seconds an upload may stand still
//	image_format:
//	  disk_formats: [raw, qcow2]
//	  container_formats: [bare]
//	  require_image_format_match: true
//	os_glance_staging_store:
//	  filesystem_store_datadir: /var/lib/images/staging
//	image_import_opts:
//	  image_import_plugins: [image_decompression, image_conversion, inject_image_metadata]
//	image_conversion:
//	  output_format: raw                   # or qcow2, vmdk
//	  qemu_img: /usr/bin/qemu-img
//	  work_dir: /var/tmp
//	  max_output: 1099511627776            # bytes of the file that it may write
//	  max_virtual_size: 1099511627776      # bytes of the disk
//	  max_memory: 1073741824               # bytes
//	  cpu_time: 900                        # seconds
//	  timeout: 3600                        # seconds
//	inject_metadata_properties:
//	  inject: {os_distro: debian}
//	  ignore_user_roles: [admin]
//	import_filtering_opts:                 # for web-download and http stores
//	  allowed_schemes: [http, https]
//	  allowed_hosts: []
//	  allowed_ports: [80, 443]
//	  disallowed_hosts: [old.example.org]  # likewise disallowed_schemes, disallowed_ports
//	  allowed_nets: [10.1.0.0/16]          # inner networks that may be reached all the same
//	glance_download_properties:
//	  extra_properties: ["hw_", "trait:"]
//	task:
//	  task_time_to_live: 48                # hours
//	  import_timeout: 86400                # seconds
//	key_manager:
//	  backend: file
//	  directory: certificates              # <img_signature_certificate_uuid>.pem
//
// Files and directories are relative to the file's own directory. Unknown names are
// errors.
package setup
