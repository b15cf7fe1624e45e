# What the suites of others need of a cloud, for the scripts that run them.
# Source it after lib.sh.

# lab_start starts an all-in-one with simulated guests on two hosts, its state under $W.
# It leaves the clouds.yaml in $OS_CLIENT_CONFIG_FILE, and: $lab_pid, $listen,
# $OS_PASSWORD (of admin). Further arguments are the cloud's.
lab_start() {
  (cd "$here" && go build -o bin/ ./servers/allinone)
  truncate -s 1M "$W/image.raw"
  listen=127.0.0.1:$((20000 + $$ % 20000))
  NACRE_OBJECT_LISTEN=127.0.0.1:$((40000 + $$ % 20000)) \
  "$here/bin/allinone" -state-dir "$W/state" -listen "$listen" -image "$W/image.raw" -image-name lab-image-1 -hosts node1,node2 -log-level error "$@" >"$W/log" 2>&1 & lab_pid=$!
  for _ in $(seq 300); do grep -q 'ready in' "$W/log" && break; sleep 0.1; done
  grep -q 'ready in' "$W/log" || die "the cloud did not start: $(cat "$W/log")"
  export OS_CLIENT_CONFIG_FILE=$W/state/clouds.yaml OS_CLOUD=nacre-admin
  OS_PASSWORD=$(sed -n '/nacre-admin/,$p' "$W/state/clouds.yaml" | sed -n 's/^ *password: *//p' | head -1 | tr -d '"'"'")
  export OS_PASSWORD
}

# lab_up is lab_start, and makes in the cloud what the suites expect: two images, two
# flavors, a private network beside the external one, quotas that do not stand in the
# way. It leaves, beside what lab_start does: $OS_IMAGE_ID, $OS_NETWORK_ID,
# $OS_SUBNET_ID, $OS_EXTGW_ID.
lab_up() {
  lab_start "$@"
  os image create --disk-format raw --container-format bare --public --file "$W/image.raw" lab-image-2 >/dev/null
  os flavor create --id 9901 --ram 128 --disk 1 --vcpus 1 lab.small >/dev/null
  os flavor create --id 9902 --ram 192 --disk 2 --vcpus 1 lab.alt >/dev/null
  os network create private >/dev/null
  os subnet create --network private --subnet-range 10.211.0.0/24 private-subnet >/dev/null
  os quota set --instances 100 --cores 100 --ram 200000 --secgroups 100 --networks 200 --subnets 200 --ports 500 admin >/dev/null
  OS_IMAGE_ID=$(os image show lab-image-1 -c id -f value); OS_NETWORK_ID=$(os network show private -c id -f value); OS_EXTGW_ID=$(os network show public -c id -f value)
  OS_SUBNET_ID=$(os subnet show private-subnet -c id -f value)
  export OS_IMAGE_ID OS_NETWORK_ID OS_EXTGW_ID OS_SUBNET_ID
}

os() { /usr/bin/openstack "$@"; }

# lab_down stops the cloud; safe to call twice.
lab_down() {
  [ -z "${lab_pid:-}" ] || { kill -INT "$lab_pid" 2>/dev/null; wait "$lab_pid" 2>/dev/null || true; lab_pid=; }
}
