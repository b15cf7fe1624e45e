# What the scripts of this directory share. Source it; it prints nothing.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin
sudo=
if [ "$(id -u)" != 0 ]; then sudo=sudo; fi

say() { echo "nacre: $*"; }
die() { echo "nacre: $*" >&2; exit 1; }

# go_env takes ",direct" off the module proxy: without it a module that the proxy
# refuses is an error that names it, not a git clone that hangs.
go_env() {
  command -v go >/dev/null || die "Go is not installed (or not in PATH)"
  GOPROXY=$(go env GOPROXY | sed 's/,direct$//'); export GOPROXY
  export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
}

# packages NAME… installs the Debian packages that are missing, and says so.
packages() {
  missing=
  for p in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
  done
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "these packages are missing, and this is no Debian:$missing"
  say "installing with ${sudo:+sudo }apt-get:$missing"
  apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600"
  # shellcheck disable=SC2086 # word splitting is meant
  if ! $apt install --no-install-recommends $missing >/tmp/nacre-apt.$$ 2>&1; then
    $apt update >/tmp/nacre-apt.$$ 2>&1 && $apt install --no-install-recommends $missing >>/tmp/nacre-apt.$$ 2>&1 ||
      { cat /tmp/nacre-apt.$$ >&2; rm -f /tmp/nacre-apt.$$; die "apt-get failed"; }
  fi
  rm -f /tmp/nacre-apt.$$
}

# what a cloud with real guests needs
run_packages="qemu-system-x86 qemu-utils libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-system libvirt-clients nftables iproute2 gcc libc6-dev"
# what building the guest image needs besides
image_packages="cpio fdisk e2fsprogs mtools gzip"
# what the tests with real things need besides
test_packages="python3-openstackclient openssh-client iptables busybox-static procps iputils-ping cloud-init xorriso postgresql postgresql-client python3-keystone python3-oslo.policy conntrack rabbitmq-server python3-swiftclient s3cmd rclone awscli curl slapd python3-keystoneauth1 strace nats-server mariadb-server mariadb-client haproxy ceph-mon ceph-osd ceph-common librados-dev librbd-dev python3-pysaml2 python3-keystonemiddleware openssl"

apt_lists() { # package lists, where there are none
  [ -n "$(find /var/lib/apt/lists -name '*_Packages*' 2>/dev/null | head -1)" ] || { say "fetching the package lists with ${sudo:+sudo }apt-get update"; $sudo apt-get -q update >/dev/null; }
}

build_real() { # the cloud with libvirt, opened at run time: no headers needed
  go_env
  say "building"
  (cd "$here" && CGO_ENABLED=1 go build -tags "libvirt libvirt_dlopen" -o bin/ ./servers/allinone ./servers/hostclean ./servers/nacre)
}
