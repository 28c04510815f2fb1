#!/bin/sh
# Lays out what the image holds: the binary, the libraries that it is linked with, the roots of certificates.
#   deploy/image/install.sh BINARY FOLDER
# FOLDER/root is the system, owned by root and never written to; FOLDER/home has what the product may write to.
set -eu
[ $# -eq 2 ] || { echo "usage: $0 BINARY FOLDER" >&2; exit 2; }
binary=$1 root=$2/root home=$2/home
here=$(cd "$(dirname "$0")/../.." && pwd)
user=65532

[ -e "$root" ] || [ -e "$home" ] && { echo "$2 is not empty" >&2; exit 1; }
umask 022
mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/usr/share/doc/aegis" "$root/var/lib/dpkg/status.d" "$home/data" "$home/tmp"

# Without the names of functions it is a fifth smaller.
strip -o "$root/usr/bin/aegis" "$binary"
chmod 755 "$root/usr/bin/aegis"

# What the loader would take, where it looks for it; the loader itself among it.
ldd "$root/usr/bin/aegis" | sed -n 's/^[^/]*\(\/[^ ]*\) (0x.*$/\1/p' | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo "aegis:x:$user:$user:Aegis:/data:/sbin/nologin" > "$root/etc/passwd"
echo "aegis:x:$user:" > "$root/etc/group"
echo "hosts: files dns" > "$root/etc/nsswitch.conf"
cp "$here/LICENSE" "$root/usr/share/doc/aegis/"

# Scanners for known faults read here which versions there are; the licences go along.
for package in libc6 libgcc-s1 ca-certificates; do
  dpkg-query --status "$package" > "$root/var/lib/dpkg/status.d/$package" 2>/dev/null || rm -f "$root/var/lib/dpkg/status.d/$package"
  [ ! -e "/usr/share/doc/$package/copyright" ] || cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package"
done

chmod 700 "$home/data"
chmod 1777 "$home/tmp"
[ "$(id -u)" -ne 0 ] || chown "$user:$user" "$home/data"
