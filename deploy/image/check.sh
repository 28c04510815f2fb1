#!/bin/sh
# Tries what install.sh laid out, as a container would run it: as nobody, with a root that cannot be written to.
#   deploy/image/check.sh FOLDER [MOST BYTES]
# Needs root: who may mount gets a root that is mounted read-only, who may not (a build of an image) gets one that
# belongs to somebody else.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [MOST BYTES]" >&2; exit 2; }
root=$1/root home=$1/home most=${2:-100000000}
user=65532 port=18999
# Mounts are this shell's own, and end with it.
if [ "${AEGIS_CHECK_INNER:-}" != yes ] && unshare --mount true 2>/dev/null; then
  AEGIS_CHECK_INNER=yes exec unshare --mount "$0" "$@"
fi
fail() { echo "check: $*" >&2; exit 1; }

bytes=$(find "$root" "$home" -type f -exec stat -c %s {} + | awk '{ all += $1 } END { print all }')
echo "size      $bytes bytes"
[ "$bytes" -le "$most" ] || fail "larger than $most bytes"

foreign=$(find "$root" \( ! -user 0 -o -perm /022 \) ! -type l | head -n 3)
[ "$(id -u)" -ne 0 ] || [ -z "$foreign" ] || fail "not root's alone: $foreign"
foreign=$(find "$root" "$home" -perm /6000 | head -n 3)
[ -z "$foreign" ] || fail "runs as somebody else: $foreign"
[ "$(id -u)" -eq 0 ] || fail "only root can go on from here"

work=$(mktemp -d)
tree=$root
stop() {
  [ -z "${pid:-}" ] || { kill -KILL "$pid" && wait "$pid"; } 2>/dev/null || true
  [ "$tree" = "$root" ] || umount --recursive --lazy "$tree" || true
  rmdir "$root/proc" "$root/dev" 2>/dev/null || true
  rm -rf --one-file-system "$work" "${root:?}/data" "${root:?}/tmp"
}
trap stop EXIT
trap 'exit 130' HUP INT TERM

cp -a "$home/." "$root/"
mkdir -p "$root/proc" "$root/dev"
if [ "${AEGIS_CHECK_INNER:-}" = yes ]; then
  mkdir "$work/tree"
  tree=$work/tree
  mount --bind "$root" "$tree"
  mount -o remount,bind,ro "$tree"
  mount -t tmpfs -o "uid=$user,gid=$user,mode=700" tmpfs "$tree/data"
  mount -t tmpfs -o mode=1777 tmpfs "$tree/tmp"
  mount --rbind /proc "$tree/proc"
  mount --rbind /dev "$tree/dev"
  echo "root      mounted read-only"
else
  echo "root      somebody else's"
fi

# `exec`, so that the process that is waited for and asked to end is the product's own.
run() {
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin AEGIS_LISTEN="127.0.0.1:$port" AEGIS_DATA_DIR=/data \
    AEGIS_ADMIN_PASSWORD=check-check-check chroot --userspec="$user:$user" --groups='' "$tree" /usr/bin/aegis "$@"
}

version=$(run --version) || fail "it does not run"
echo "version   $version"
if (run health) > "$work/health" 2>&1; then fail "something answers on port $port already"; fi

touch "$work/before"
(run) > "$work/log" 2>&1 &
pid=$!
waited=0
until (run health) > "$work/health" 2>&1; do
  kill -0 "$pid" 2>/dev/null || { cat "$work/log" >&2; fail "it ended by itself"; }
  waited=$((waited + 1))
  [ "$waited" -lt 120 ] || { cat "$work/log" "$work/health" >&2; fail "not ready after a minute"; }
  sleep 0.5
done
echo "health    ready after about $((waited / 2)) s"

owner=$(stat -c %u "/proc/$pid")
[ "$owner" = "$user" ] || fail "it runs as $owner"
written=$(find "$root" -newer "$work/before" -type f ! -path "$root/data/*" ! -path "$root/tmp/*" ! -path "$root/proc/*" ! -path "$root/dev/*" 2>/dev/null | head -n 3)
[ -z "$written" ] || fail "it writes outside of /data and /tmp: $written"

kill -TERM "$pid"
code=0
wait "$pid" || code=$?
pid=
[ "$code" -eq 0 ] || { cat "$work/log" >&2; fail "it ended with $code when it was asked to end"; }
echo "end       in good order"
