#!/bin/bash
# story-image.sh: images with the real clients, openstack and glance, against an
# all-in-one with simulated guests that it starts: create, save, set, unset, share,
# stage, import with its plug-ins, several stores, cache, signatures, metadata
# definitions, a 2 GiB sparse file,
# an upload that breaks off, crafted files, and kill -9 in the middle of uploads,
# imports and deletions (NACRE_KILLS times, default 5), with an audit at the end.
# It fails at the first thing that is not as it should be.
. "$(dirname "$0")/lib.sh"
packages python3-openstackclient python3-glanceclient qemu-utils curl jq openssl
go_env
work=$(mktemp -d)
pid= web=
stop() { [ -z "$pid" ] || { kill "-${1:-INT}" "$pid" 2>/dev/null; wait "$pid" 2>/dev/null || true; pid=; }; }
finish() {
  status=$?
  trap - EXIT
  [ $status = 0 ] || { [ ! -f "$work/log" ] || tail -40 "$work/log" >&2; }
  stop; [ -z "$web" ] || kill "$web" 2>/dev/null || true
  rm -rf "$work"
  exit $status
}
trap finish EXIT
step() { say "images: $*"; }
fail() { die "images: $*"; }
refused() { local text=$1 out; shift; if out=$("$@" 2>&1); then fail "this should have been refused: $*"; fi; case $out in *"$text"*) ;; *) fail "refused, but it says: $out (not: $text)" ;; esac; }
same() { [ "$1" = "$2" ] || fail "$3: is '$1', not '$2'"; }
os() { OS_CLIENT_CONFIG_FILE=$work/state/clouds.yaml OS_CLOUD=nacre-admin /usr/bin/openstack "$@"; }
glance() {
  env OS_AUTH_URL="http://$listen/identity/v3" OS_USERNAME=admin OS_PASSWORD="$password" OS_PROJECT_NAME=admin OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default \
    OS_REGION_NAME=RegionOne /usr/bin/glance "$@"
}
shown() { os image show "$1" -f json | jq -r ".$2"; }
# The clients take standard input for an image's data; so images without data are
# made by hand.
bare() {
  curl -s -H "X-Auth-Token: $(os token issue -f value -c id)" -H 'Content-Type: application/json' -d "{\"disk_format\":\"${2:-raw}\",\"container_format\":\"bare\",\"name\":\"$1\"}" "http://$listen/image/v2/images" | jq -r .id
}
becomes() { local got=; for _ in $(seq 120); do got=$(shown "$1" status); [ "$got" != "$2" ] || return 0; sleep 0.5; done; fail "image $1 is $got, not $2"; }

step "build and start"
(cd "$here" && go build -o "$work/" ./servers/allinone ./servers/nacre)
listen=127.0.0.1:$((20000 + $$ % 20000))
start() {
  NACRE_OBJECT_LISTEN=127.0.0.1:$((40000 + $$ % 20000)) NACRE_IMAGE_STORES=second NACRE_IMAGE_FETCH_NETS=127.0.0.0/8 \
    "$work/allinone" -state-dir "$work/state" -listen "$listen" -log-level error >"$work/log" 2>&1 & pid=$!
  for _ in $(seq 600); do grep -q 'ready in' "$work/log" && break; kill -0 "$pid" 2>/dev/null || fail "the cloud ended"; sleep 0.1; done
  grep -q 'ready in' "$work/log" || { kill -QUIT "$pid"; sleep 2; cat "$work/log" >&2; fail "the cloud did not start; see where it was"; }
}
# what an operator writes
mkdir -p "$work/state" "$work/certs" "$work/metadefs"
cat >"$work/state/image.yaml" <<END
default: {metadata_source_path: $work/metadefs}
os_glance_staging_store: {filesystem_store_datadir: staging}
image_import_opts: {image_import_plugins: [image_decompression, image_conversion, inject_image_metadata]}
image_conversion: {output_format: raw}
inject_metadata_properties: {inject: {imported: "yes"}, ignore_user_roles: [nobody]}
key_manager: {backend: file, directory: $work/certs}
END
echo '{"namespace":"Nacre::Loaded","properties":{"colour":{"title":"Colour","type":"string"}}}' >"$work/metadefs/loaded.json"
start
password=$(sed -n '/nacre-admin/,$p' "$work/state/clouds.yaml" | sed -n 's/^ *password: *//p' | head -1 | tr -d '"'"'")
cd "$work"

step "create, save, set, unset"
head -c 3000000 /dev/urandom >disk.raw
id=$(os image create --disk-format raw --container-format bare --file disk.raw --property colour=red --tag first story -f value -c id)
same "$(shown "$id" status)" active "a new image"
same "$(shown "$id" checksum)" "$(md5sum disk.raw | cut -d' ' -f1)" "its checksum"
same "$(shown "$id" properties.os_hash_value)" "$(sha512sum disk.raw | cut -d' ' -f1)" "its hash"
os image save --file back.raw "$id"; cmp disk.raw back.raw
os image set --name renamed --property size_of_hat=7 --min-disk 1 --protected --tag second "$id"
same "$(shown "$id" name)" renamed "a renamed image"
refused "protected" os image delete "$id"
os image unset --property colour --tag first "$id"
same "$(shown "$id" properties.colour)" null "a property that was unset"
os image set --unprotected --deactivate "$id"; same "$(shown "$id" status)" deactivated "a deactivated image"
os image set --activate "$id"
same "$(os image list --tag second -f value -c ID)" "$id" "a list by tag"

step "share with a project"
demo=$(os project show demo -f value -c id)
os image add project "$id" "$demo" >/dev/null
OS_CLIENT_CONFIG_FILE=$work/state/clouds.yaml OS_CLOUD=nacre openstack image set --accept "$id"
same "$(os image member list "$id" -f value -c Status)" accepted "a membership"
os image remove project "$id" "$demo"
os image delete "$id"

step "a sparse file of 2 GiB, in qcow2 and raw"
truncate -s 2G sparse.raw
qemu-img convert -f raw -O qcow2 sparse.raw sparse.qcow2
big=$(os image create --disk-format raw --container-format bare --file sparse.raw big -f value -c id)
same "$(shown "$big" size)" 2147483648 "the size of a large image"
os image save --file sparse.back "$big"; cmp sparse.raw sparse.back; rm sparse.back
small=$(os image create --disk-format qcow2 --container-format bare --file sparse.qcow2 small -f value -c id)
same "$(shown "$small" virtual_size)" 2147483648 "the virtual size of a qcow2"
os image delete "$big" "$small"

step "what is refused"
qemu-img create -q -f qcow2 -b "$work/disk.raw" -F raw backed.qcow2
for f in raw qcow2 vmdk; do refused "" os image create --disk-format $f --container-format bare --file backed.qcow2 backed; done
refused "" os image create --disk-format raw --container-format bare --file sparse.qcow2 mismatch
for i in $(os image list --status queued -f value -c ID); do os image delete "$i"; done

step "a signed image, and one whose bytes are others"
cert=11111111-2222-4333-8444-555555555555
openssl req -x509 -newkey rsa:2048 -nodes -keyout sign.pem -out "certs/$cert.pem" -subj /CN=signer -days 2 2>/dev/null
openssl dgst -sha256 -sign sign.pem -sigopt rsa_padding_mode:pss -out disk.sig disk.raw
signed() { os image create --disk-format raw --container-format bare --property img_signature="$(base64 -w0 disk.sig)" --property img_signature_hash_method=SHA-256 \
  --property img_signature_key_type=RSA-PSS --property img_signature_certificate_uuid="$1" --file "$2" signed -f value -c id; }
id=$(signed $cert disk.raw); same "$(shown "$id" status)" active "a signed image"; os image delete "$id"
refused "Signature verification failed" signed $cert sparse.qcow2
refused "Unable to retrieve certificate" signed 99999999-2222-4333-8444-555555555555 disk.raw
for i in $(os image list --status queued -f value -c ID); do os image delete "$i"; done

step "stage and import, into two stores, and a copy less"
id=$(bare imported)
glance image-stage --file disk.raw "$id"; same "$(shown "$id" status)" uploading "a staged image"
glance image-import --import-method glance-direct --stores default,second "$id" >/dev/null; becomes "$id" active
same "$(shown "$id" properties.stores)" default,second "its stores"
glance stores-info | grep -q second
glance stores-delete --store second "$id" 2>/dev/null || glance stores-delete second "$id"
same "$(shown "$id" properties.stores)" default "its stores then"
glance image-import --import-method copy-image --all-stores true "$id" >/dev/null
for _ in $(seq 60); do [ "$(shown "$id" properties.stores)" != default,second ] || break; sleep 0.5; done
same "$(shown "$id" properties.stores)" default,second "a copied image's stores"

step "what is imported is unpacked and converted, and gets properties"
qemu-img convert -f raw -O qcow2 disk.raw packed.qcow2; gzip -k packed.qcow2
p=$(bare packed qcow2)
glance image-stage --file packed.qcow2.gz "$p"
glance image-import --import-method glance-direct "$p" >/dev/null; becomes "$p" active
same "$(shown "$p" disk_format)" raw "a converted image's format"
same "$(shown "$p" properties.imported)" yes "a property that imports get"
os image save --file back.raw "$p"; cmp -n 3000000 disk.raw back.raw
os image delete "$p"

step "web-download, and what it may not fetch"
python3 -m http.server --bind 127.0.0.1 --directory "$work" $((10000 + $$ % 10000)) >/dev/null 2>&1 & web=$!
from=http://127.0.0.1:$((10000 + $$ % 10000))
for _ in $(seq 50); do curl -s "$from/" >/dev/null && break; sleep 0.1; done
w=$(bare web)
glance image-import --import-method web-download --uri "$from/disk.raw" "$w" >/dev/null
becomes "$w" active; os image save --file back.raw "$w"; cmp disk.raw back.raw
q=$(bare refused) token=$(os token issue -f value -c id)
for bad in file:///etc/passwd http://169.254.169.254/latest http://10.0.0.1/ gopher://127.0.0.1/ http://0x7f.1/; do
  got=$(curl -s -o /dev/null -w '%{http_code}' -H "X-Auth-Token: $token" -H 'Content-Type: application/json' -d "{\"method\":{\"name\":\"web-download\",\"uri\":\"$bad\"}}" "http://$listen/image/v2/images/$q/import")
  same "$got" 400 "the answer to $bad"
done
same "$(shown "$q" status)" queued "an image whose URLs were refused"
os image delete "$q" "$w"

step "the cache"
glance cache-queue "$id"
for _ in $(seq 60); do glance cache-list | grep -q "$id.*cached" && break; sleep 0.5; done
glance cache-list | grep -q "$id.*cached" || fail "the image is not cached"
os image save --file back.raw "$id"; cmp disk.raw back.raw
glance cache-clear
os image delete "$id"

step "metadata definitions"
glance md-namespace-show Nacre::Loaded | grep -q colour
glance md-namespace-create --visibility public Nacre::Story >/dev/null
glance md-tag-create --name hot Nacre::Story >/dev/null
glance md-property-create --name colour --title Colour --schema '{"type":"string"}' Nacre::Story >/dev/null
glance md-namespace-show Nacre::Story | grep -q colour
glance md-namespace-delete Nacre::Story

step "an upload that breaks off leaves nothing"
token=$(os token issue -f value -c id)
id=$(bare broken)
timeout 1 curl -s -X PUT --limit-rate 1M -H "X-Auth-Token: $token" -H "Content-Type: application/octet-stream" -T sparse.raw "http://$listen/image/v2/images/$id/file" >/dev/null || true
becomes "$id" queued; os image delete "$id"

kills=${NACRE_KILLS:-5}
step "kill -9 in uploads, imports and deletions, $kills times"
head -c 60000000 /dev/urandom >middle.raw
token=$(os token issue -f value -c id)
for n in $(seq "$kills"); do
  api() { curl -s -H "X-Auth-Token: $token" "$@"; }
  new() { api -H 'Content-Type: application/json' -d '{"disk_format":"raw","container_format":"bare","name":"kill"}' "http://$listen/image/v2/images" | jq -r .id; }
  a=$(new) b=$(new) c=$(new)
  api -X PUT -H 'Content-Type: application/octet-stream' -T middle.raw "http://$listen/image/v2/images/$b/stage"
  api -X PUT -H 'Content-Type: application/octet-stream' -T disk.raw "http://$listen/image/v2/images/$c/file"
  (api -X PUT -H 'Content-Type: application/octet-stream' -T middle.raw "http://$listen/image/v2/images/$a/file" || true) >/dev/null & x=$!
  (api -H 'Content-Type: application/json' -d '{"method":{"name":"glance-direct"},"all_stores":true}' "http://$listen/image/v2/images/$b/import" || true) >/dev/null & y=$!
  (api -X DELETE "http://$listen/image/v2/images/$c" || true) >/dev/null & z=$!
  sleep 0.$((RANDOM % 4))$((RANDOM % 10))
  kill -9 "$pid"; wait "$pid" 2>/dev/null || true; pid=
  wait $x $y $z || true
  start
  for what in "upload $a" "import $b" "deletion $c"; do
    i=${what#* }
    for _ in $(seq 300); do
      st=$(api "http://$listen/image/v2/images/$i" | jq -r '.status // "gone"' 2>/dev/null || echo gone)
      case $st in saving | importing) sleep 0.5 ;; *) break ;; esac
    done
    case $st in active) api "http://$listen/image/v2/images/$i/file" -o got; cmp -s got middle.raw || cmp -s got disk.raw || fail "an active image has other bytes" ;;
      queued | uploading | gone) ;; *) fail "an image stays $st" ;; esac
    echo "${what% *} that was killed left the image $st" >>ended
    [ "$st" = gone ] || api -X DELETE "http://$listen/image/v2/images/$i"
  done
done
sort ended | uniq -c

step "nothing is left"
for _ in $(seq 240); do [ -n "$(find "$work/state/images" "$work/state/image-stores" "$work/state/staging" -type f | head -1)" ] || break; sleep 0.5; done
left=$(find "$work/state/images" "$work/state/image-stores" "$work/state/staging" -type f)
[ -z "$left" ] || fail "files are left: $left"
stop
"$work/nacre" audit --state-dir "$work/state" || fail "the audit found something"
step "told"
