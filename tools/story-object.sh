#!/bin/bash
# story-object.sh: the object store's story with the clients that people use:
# swift, rclone, s3cmd, aws, curl and openstack. It starts an all-in-one with
# simulated guests in a directory of its own, and fails at the first thing that is
# not as it should be. ALLINONE names a built program to run instead.
. "$(dirname "$0")/lib.sh"
packages python3-openstackclient python3-swiftclient rclone s3cmd awscli curl
work=$(mktemp -d)
pid=
finish() {
  status=$?
  trap - EXIT
  if [ -n "$pid" ]; then kill -INT "$pid" 2>/dev/null || true; wait "$pid" || status=$?; fi
  if [ $status != 0 ] && [ -f "$work/log" ]; then cat "$work/log" >&2; fi
  rm -rf "$work"
  exit $status
}
trap finish EXIT
step() { echo "story-object: $*"; }
fail() { echo "story-object: $*" >&2; exit 1; }
expect() { # WHAT WANT GOT
  [ "$2" = "$3" ] || fail "$1: want '$2', got '$3'"
}
py() { /usr/bin/python3 -c "$@"; }
rm() { command rm "$@"; }

if [ -z "${ALLINONE:-}" ]; then go_env; (cd "$here" && go build -o bin/ ./servers/allinone); ALLINONE=$here/bin/allinone; fi
main=127.0.0.1:$((20000 + $$ % 10000)) objects=127.0.0.1:$((30000 + $$ % 10000))
mkdir -m 700 "$work/state"
{ echo '[keymaster]'; echo "encryption_root_secret = $(head -c 32 /dev/urandom | base64)"; } >"$work/state/keymaster.conf"
"$ALLINONE" -state-dir "$work/state" -listen "$main" -object-listen "$objects" -object-reap-delay 0s >"$work/log" 2>&1 & pid=$!
for _ in $(seq 300); do grep -q 'ready in' "$work/log" && break; sleep 0.1; done
grep -q 'ready in' "$work/log" || fail "the cloud did not start"
export OS_CLIENT_CONFIG_FILE=$work/state/clouds.yaml
password() { py "import sys,yaml;print(yaml.safe_load(open('$OS_CLIENT_CONFIG_FILE'))['clouds'][sys.argv[1]]['auth']['password'])" "$1"; }
pw=$(password nacre)
swift() { env -u OS_CLOUD -u OS_CLIENT_CONFIG_FILE OS_AUTH_URL="http://$main/identity/v3" OS_USERNAME=demo OS_PASSWORD="$pw" OS_PROJECT_NAME=demo OS_USER_DOMAIN_NAME=Default \
  OS_PROJECT_DOMAIN_NAME=Default OS_AUTH_VERSION=3 OS_IDENTITY_API_VERSION=3 /usr/bin/swift "$@"; }
demo() { OS_CLOUD=nacre /usr/bin/openstack "$@"; }
cd "$work"
head -c 12000000 /dev/urandom >big; printf 'hello\n' >hello.txt
mkdir tree tree/a tree/b; for i in 1 2 3; do echo "$i" >"tree/a/$i"; echo "$i" >"tree/b/ö $i"; done

step "openstack: a container and an object"
demo container create first >/dev/null
demo object create first hello.txt >/dev/null
expect "the object's text" hello "$(demo object save --file - first hello.txt)"

step "swift: files, a tree, large objects of both kinds, copies, metadata"
swift upload -q c hello.txt
swift upload -q c tree
expect "the tree" 6 "$(swift list c --prefix tree/ | wc -l)"
expect "a directory" "tree/a/ tree/b/" "$(swift list c --prefix tree/ --delimiter / | xargs)"
swift upload -q c big -S 5000000 --object-name dlo
swift upload -q c big -S 5000000 --use-slo --object-name slo
for o in dlo slo; do swift download -q c $o -o got; cmp big got || fail "$o came back changed"; rm got; done
swift copy -d /c/copy c hello.txt >/dev/null
expect "the copy" hello "$(swift download -q c copy -o -)"
swift post c hello.txt -m color:red
swift stat c hello.txt | grep -q 'Meta Color: red' || fail "the metadata is not there"
swift post c -r '.r:*,.rlistings' -m web-index:hello.txt
storage=http://$objects/v1/$(swift stat -v 2>/dev/null | sed -n 's#.*StorageURL: .*/v1/##p')
expect "what everybody may read" hello "$(curl -s "$storage/c/hello.txt")"
expect "the index page" hello "$(curl -s "$storage/c/")"
expect "a stranger's write" 401 "$(curl -s -o /dev/null -w '%{http_code}' -T hello.txt "$storage/c/x")"

step "swift: signed URLs, on both addresses, and for nothing else"
swift post -m Temp-URL-Key:geheim
path=${storage#http://"$objects"}/c/slo
url=$(/usr/bin/swift tempurl GET 600 "$path" geheim)
curl -sf "http://$objects$url" -o got; cmp big got || fail "the signed URL gave something else"
curl -sf "http://$main/object-store$url" -o got; cmp big got || fail "the signed URL below the main address gave something else"
url2=$(/usr/bin/swift tempurl GET 600 "/object-store$path" geheim)
curl -sf "http://$main$url2" -o got; cmp big got || fail "a URL signed with the prefix gave something else"
expect "the URL for another object" 401 "$(curl -s -o /dev/null -w '%{http_code}' "http://$objects${url/slo/dlo}")"
expect "the URL for writing" 401 "$(curl -s -o /dev/null -w '%{http_code}' -T hello.txt "http://$objects$url")"
rm got

step "swift: an archive, a bulk deletion, expiry, versions"
tar cf tree.tar -C tree a b
swift upload -q unpacked tree.tar >/dev/null
token=$(demo token issue -f value -c id)
curl -sf -X PUT -H "X-Auth-Token: $token" -T tree.tar "$storage/unpacked?extract-archive=tar" | grep -q 'Number Files Created: 6' || fail "the archive was not unpacked"
got=$(printf '%s\n' unpacked/a/1 unpacked/a/2 unpacked/none | curl -s -X POST -H "X-Auth-Token: $token" -H 'Content-Type: text/plain' --data-binary @- "$storage/?bulk-delete")
grep -q 'Number Deleted: 2' <<<"$got" || fail "bulk-delete: $got"
swift upload -q -H 'X-Delete-After: 2' c hello.txt --object-name soon
curl -sf -X PUT -H "X-Auth-Token: $token" -H 'X-Versions-Enabled: true' "$storage/v"
for t in one two; do printf %s $t >v; swift upload -q v v; done
swift delete v v >/dev/null
expect "the deleted object" 404 "$(curl -s -o /dev/null -w '%{http_code}' -H "X-Auth-Token: $token" "$storage/v/v")"
expect "its versions" "two one" "$(curl -sf -H "X-Auth-Token: $token" "$storage/v?versions&format=json" |
  py 'import json,sys,urllib.request
for e in json.load(sys.stdin):
    if "deleted" in e["content_type"]: continue
    r = urllib.request.Request(sys.argv[1]+"/v?version-id="+e["version_id"], headers={"X-Auth-Token": sys.argv[2]})
    print(urllib.request.urlopen(r).read().decode(), end=" ")' "$storage/v" "$token" | xargs)"
for _ in $(seq 100); do swift list c | grep -qx soon || break; sleep 0.1; done
! swift list c | grep -qx soon || fail "what has expired is still listed"

step "the old way in: /auth/v1.0"
expect "the account" "$(basename "$storage")" "$(env -u OS_CLOUD /usr/bin/swift -A "http://$objects/auth/v1.0" -U demo:demo -K "$pw" stat 2>/dev/null | sed -n 's/ *Account: //p')"

read -r key secret <<<"$(demo ec2 credentials create -f value -c access -c secret | xargs)"
step "s3cmd"
s3() { s3cmd --access_key="$key" --secret_key="$secret" --host="$objects" --host-bucket="$objects" --no-ssl --no-progress "$@"; }
s3 mb s3://bucket >/dev/null
s3 put big hello.txt s3://bucket/dir/ >/dev/null
s3 put --multipart-chunk-size-mb=5 big s3://bucket/multi >/dev/null
s3 get s3://bucket/multi got >/dev/null; cmp big got || fail "s3cmd: the large object came back changed"
s3 get --force s3://bucket/dir/big got >/dev/null; cmp big got || fail "s3cmd: the object came back changed"
rm got
expect "s3cmd ls" 2 "$(s3 ls s3://bucket/dir/ | wc -l)"
s3 sync tree/ s3://bucket/tree/ >/dev/null
s3 cp s3://bucket/dir/hello.txt s3://bucket/copied >/dev/null
s3 del s3://bucket/dir/hello.txt >/dev/null
s3 --signature-v2 ls s3://bucket >/dev/null
expect "the other API sees the same" 6 "$(swift list bucket --prefix tree/ | wc -l)"

step "aws"
aws() { env AWS_ACCESS_KEY_ID="$key" AWS_SECRET_ACCESS_KEY="$secret" AWS_DEFAULT_REGION=RegionOne AWS_EC2_METADATA_DISABLED=true /usr/bin/aws --endpoint-url "http://$objects" "$@"; }
aws s3 cp --quiet big s3://bucket/aws/big
aws s3 cp --quiet s3://bucket/aws/big got; cmp big got || fail "aws: the object came back changed"
rm got
expect "aws ls" 1 "$(aws s3 ls s3://bucket/aws/ | wc -l)"
expect "a range" 10 "$(aws s3api get-object --bucket bucket --key aws/big --range bytes=100-109 got --query ContentLength)"
curl -sf "$(aws s3 presign s3://bucket/copied)" | grep -qx hello || fail "aws: the presigned URL"
aws s3api put-bucket-versioning --bucket bucket --versioning-configuration Status=Enabled
aws s3 cp --quiet hello.txt s3://bucket/copied
aws s3 rm --quiet s3://bucket/copied
expect "aws versions" "2 1" "$(aws s3api list-object-versions --bucket bucket --prefix copied --query '[length(Versions),length(DeleteMarkers)]' --output text | xargs)"
aws s3api put-bucket-versioning --bucket bucket --versioning-configuration Status=Suspended
aws s3api put-object-tagging --bucket bucket --key aws/big --tagging 'TagSet=[{Key=team,Value=ops}]'
expect "aws tags" ops "$(aws s3api get-object-tagging --bucket bucket --key aws/big --query 'TagSet[0].Value' --output text)"
aws s3api put-bucket-tagging --bucket bucket --tagging 'TagSet=[{Key=cost,Value=42}]'
expect "aws bucket tags" 42 "$(aws s3api get-bucket-tagging --bucket bucket --query 'TagSet[0].Value' --output text)"
aws s3api put-bucket-lifecycle-configuration --bucket bucket --lifecycle-configuration \
  '{"Rules": [{"ID": "tmp", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 1}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}}]}'
expect "aws lifecycle" "tmp 1" "$(aws s3api get-bucket-lifecycle-configuration --bucket bucket --query 'Rules[0].[ID,Expiration.Days]' --output text | xargs)"
echo x | aws s3 cp --quiet - s3://bucket/tmp/x
aws s3api head-object --bucket bucket --key tmp/x --query Expiration --output text | grep -q 'rule-id="tmp"' || fail "aws: the object does not say when it goes"
expect "before the policy" 401 "$(curl -s -o /dev/null -w '%{http_code}' "$storage/bucket/tmp/x")"
aws s3api put-bucket-policy --bucket bucket --policy '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/*"}]}'
expect "what the policy allows" 200 "$(curl -s -o /dev/null -w '%{http_code}' "$storage/bucket/tmp/x")"
expect "what it does not" 401 "$(curl -s -o /dev/null -w '%{http_code}' "$storage/bucket")"
aws s3api delete-bucket-policy --bucket bucket
expect "after the policy" 401 "$(curl -s -o /dev/null -w '%{http_code}' "$storage/bucket/tmp/x")"
aws s3api put-bucket-cors --bucket bucket --cors-configuration '{"CORSRules": [{"AllowedOrigins": ["http://*.site.test"], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"], "MaxAgeSeconds": 60}]}'
expect "aws cors" 60 "$(aws s3api get-bucket-cors --bucket bucket --query 'CORSRules[0].MaxAgeSeconds')"
asks() { curl -s -o /dev/null -w '%{http_code}' -X OPTIONS -H "Origin: $1" -H 'Access-Control-Request-Method: GET' "http://$objects/bucket/copied"; }
expect "a browser of the site" 200 "$(asks http://www.site.test)"
expect "a browser of another" 403 "$(asks http://other.test)"
aws s3api delete-bucket-cors --bucket bucket
expect "without rules" 403 "$(asks http://www.site.test)"
! aws s3api put-bucket-replication --bucket bucket --replication-configuration '{"Role": "r", "Rules": []}' 2>refused || fail "aws: replication was taken"
grep -q NotImplemented refused || fail "aws: $(cat refused)"

step "rclone, by both APIs"
unset AWS_CA_BUNDLE # rclone refuses it
export RCLONE_CONFIG=$work/rclone.conf
cat >"$RCLONE_CONFIG" <<CONF
[s3]
type = s3
provider = Other
access_key_id = $key
secret_access_key = $secret
endpoint = http://$objects
force_path_style = true
[sw]
type = swift
auth = http://$main/identity/v3
user = demo
key = $pw
tenant = demo
domain = Default
tenant_domain = Default
auth_version = 3
chunk_size = 5M
CONF
for r in s3 sw; do
  rclone mkdir $r:rc-$r
  rclone copy tree $r:rc-$r/tree
  rclone copy big $r:rc-$r
  rclone check tree $r:rc-$r/tree 2>/dev/null || fail "rclone: $r differs"
  rclone cat $r:rc-$r/big | cmp - big || fail "rclone: $r: the large object came back changed"
  rclone purge $r:rc-$r
done

step "an account goes with its project"
admin() { OS_CLOUD=nacre-admin /usr/bin/openstack "$@"; }
admin role add --user admin --project admin ResellerAdmin
gone=$(admin project create -f value -c id short-lived)
admin role add --user admin --project short-lived member
env OS_AUTH_URL="http://$main/identity/v3" OS_USERNAME=admin OS_PASSWORD="$(password nacre-admin)" OS_PROJECT_NAME=short-lived OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default \
  OS_AUTH_VERSION=3 OS_IDENTITY_API_VERSION=3 /usr/bin/swift post own
all=$(admin token issue -f value -c id)
account=${storage%AUTH_*}AUTH_$gone
curl -sf -X PUT -H "X-Auth-Token: $all" -T hello.txt "$account/own/o"
used() { curl -sI -H "X-Auth-Token: $all" "$account" | tr -d '\r' | sed -n 's/X-Account-Container-Count: //pi'; }
expect "the account's containers" 1 "$(used)"
admin project delete short-lived
for _ in $(seq 100); do [ "$(used)" != 0 ] || break; sleep 0.1; done
expect "the account's containers afterwards" 0 "$(used)"

step "nothing of it is plain on the disk"
swift upload -q c hello.txt -H 'X-Object-Meta-Colour: ultramarine'
! grep -rqaE 'ultramarine|^hello$' "$work/state/objects" "$work/state/db/objectstore.db" || fail "something is there in the open"

step "all is taken away, and the audit finds nothing"
for c in $(swift list); do swift delete -q "$c" >/dev/null 2>&1 || true; done
kill -INT "$pid"; wait "$pid"; pid=
(cd "$here" && go_env && go run ./servers/nacre audit --state-dir "$work/state") | grep -qx 'nothing found' || fail "the audit found something"
step "done"
