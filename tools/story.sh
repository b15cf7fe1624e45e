#!/bin/bash
# story.sh: one cloud's story with the real openstack command, from login to a
# clean end.
#
#   tools/story.sh            starts an all-in-one with simulated guests in a
#                             directory of its own, tells the story, stops it
#   tools/story.sh -keep      against the cloud that OS_CLIENT_CONFIG_FILE names
#
# It fails at the first thing that is not as it should be. Wants: openstack
# (python3-openstackclient), go.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$PATH:/usr/local/go/bin
work=$(mktemp -d)
pid=
finish() {
  status=$?
  trap - EXIT
  if [ -n "$pid" ]; then
    kill -INT "$pid" 2>/dev/null || true
    wait "$pid" || status=$?
  fi
  if [ $status != 0 ] && [ -f "$work/log" ]; then cat "$work/log" >&2; fi
  rm -rf "$work"
  exit $status
}
trap finish EXIT
command -v openstack >/dev/null || { echo "story: the openstack command is not installed" >&2; exit 1; }

step() { echo "story: $*"; }
fail() { echo "story: $*" >&2; exit 1; }
demo() { OS_CLOUD=nacre openstack "$@"; }
admin() { OS_CLOUD=nacre-admin openstack "$@"; }
# becomes WHAT WANT COMMAND…: the command prints WANT within a minute
becomes() {
  local what=$1 want=$2 got=; shift 2
  for _ in $(seq 60); do
    got=$("$@" 2>&1) || true
    [ "$got" != "$want" ] || return 0
    [ "$got" != ERROR ] || break
    sleep 1
  done
  fail "$what is $got, not $want"
}
# refused TEXT COMMAND…: the command fails and says TEXT
refused() {
  local text=$1 out; shift
  if out=$("$@" 2>&1); then fail "this should have been refused: $*"; fi
  case $out in *"$text"*) ;; *) fail "refused, but it says: $out (not: $text)";; esac
}

if [ "${1:-}" != -keep ]; then
  step "build and start"
  (cd "$here" && GOFLAGS="${GOFLAGS:-} -buildvcs=false" go build -o "$work/" ./servers/allinone ./servers/nacre)
  start() {
    "$work/allinone" -state-dir "$work/state" -listen 127.0.0.1:0 >"$work/log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
      if grep -q 'ready in' "$work/log"; then break; fi
      kill -0 $pid 2>/dev/null || fail "the cloud ended"
      sleep 0.1
    done
    grep 'ready in' "$work/log" || fail "not ready within 10 s"
  }
  start
  export OS_CLIENT_CONFIG_FILE=$work/state/clouds.yaml
fi

step "log in"
[ -n "$(demo token issue -f value -c id)" ]
refused "authentication" env OS_PASSWORD=wrong OS_CLOUD=nacre openstack --os-password wrong token issue

step "upload an image"
truncate -s 4M "$work/disk.raw"
image=$(demo image create --disk-format raw --container-format bare --file "$work/disk.raw" story -f value -c id)
becomes "the image" active demo image show story -f value -c status
demo image save --file "$work/back.raw" story
cmp "$work/disk.raw" "$work/back.raw"

step "make a network, a router and a security group"
demo network create story >/dev/null
demo subnet create --network story --subnet-range 10.66.0.0/24 story >/dev/null
demo router create story >/dev/null
demo router set --external-gateway public story
demo router add subnet story story
demo security group create story >/dev/null
demo security group rule create --protocol tcp --dst-port 22 story >/dev/null
refused "Conflict" demo network delete story

step "boot a server"
demo keypair create story >"$work/key"
grep -q 'PRIVATE KEY' "$work/key"
server=$(demo server create --image story --flavor m1.nano --network story --key-name story --security-group story --wait story -f value -c id | tr -d "\n")
becomes "the server" ACTIVE demo server show "$server" -f value -c status

step "give it a floating IP"
fip=$(demo floating ip create public -f value -c floating_ip_address)
demo server add floating ip story "$fip"
becomes "the floating IP" ACTIVE demo floating ip show "$fip" -f value -c status
demo server show story -f value -c addresses | grep -q "$fip" || fail "the server does not show $fip"
demo server list
case $(demo console log show story) in *story*) ;; *) fail "the console does not name the server";; esac

step "stop, start, reboot"
demo server stop story
becomes "the stopped server" SHUTOFF demo server show story -f value -c status
demo server start story
becomes "the started server" ACTIVE demo server show story -f value -c status
demo server reboot --hard --wait story >/dev/null
[ "$(admin server list --all-projects -f value -c ID)" = "$server" ] || fail "the administrator sees other servers"

if [ -n "$pid" ]; then
  step "stop the cloud and start it again"
  port=$(sed -n 's/.*at http:\/\/127.0.0.1:\([0-9]*\) .*/\1/p' "$work/log")
  kill -INT "$pid"; wait "$pid" || fail "the cloud did not stop cleanly"
  pid=
  start
  [ -n "$port" ]
  becomes "the server" ACTIVE demo server show story -f value -c status
fi

step "what must be refused"
refused "No flavor with a name or ID" demo server create --image story --flavor no-flavor --network story x
refused "403" demo flavor create --ram 64 --disk 1 --vcpus 1 x
refused "not a valid" demo subnet create --network story --subnet-range 10.66.0.0/99 x

step "delete it all"
demo server delete --wait story
demo floating ip delete "$fip"
demo router remove subnet story story
demo router delete story
demo network delete story
demo security group delete story
demo keypair delete story
demo image delete "$image"
[ -z "$(admin server list --all-projects -f value)" ] || fail "servers are left"
[ -z "$(demo port list --network story -f value 2>/dev/null)" ] || fail "ports are left"

if [ -n "$pid" ]; then
  step "stop, and audit what is left"
  kill -INT "$pid"; wait "$pid" || fail "the cloud did not stop cleanly"
  pid=
  "$work/nacre" audit --state-dir "$work/state"
fi
step "told"
