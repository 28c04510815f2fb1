#!/bin/sh
# Makes what the roles know each other by: a CA, and a certificate a role; anew in the last month of the old. It writes
# below `run` beside it, or into the folder that it is given.
set -eu
run=${1:-$(cd "$(dirname "$0")" && pwd)/run}
umask 077
mkdir -p "$run/values"
ca=$run/values/peer-ca
if ! [ -s "$ca.crt" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -subj "/CN=Aegis peers" -keyout "$ca.key" -out "$ca.crt" 2>/dev/null
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for role in identity catalog testing evidence intel analytics deception gateway; do
  mkdir -p "$run/$role"
  if ! openssl x509 -checkend 2592000 -noout -in "$run/$role/peer.crt" >/dev/null 2>&1; then
    # `aegis` is for Prometheus, which asks addresses.
    printf 'subjectAltName=DNS:%s,DNS:aegis\nextendedKeyUsage=serverAuth,clientAuth\n' "$role" > "$work/ext"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$role" \
      -keyout "$work/peer.key" -out "$work/request" 2>/dev/null
    openssl x509 -req -in "$work/request" -CA "$ca.crt" -CAkey "$ca.key" -set_serial "0x$(openssl rand -hex 16)" \
      -days 366 -extfile "$work/ext" -out "$work/peer.crt" 2>/dev/null
    # A container runs as nobody who owns files here; the folder above is for its owner alone.
    chmod 444 "$work/peer.key" "$work/peer.crt"
    mv -f "$work/peer.key" "$work/peer.crt" "$run/$role/"
  fi
done
for folder in identity catalog testing evidence intel analytics deception gateway sensor prometheus; do
  mkdir -p "$run/$folder"
  chmod 755 "$run/$folder"
  cp -f "$ca.crt" "$run/$folder/.ca"
  chmod 444 "$run/$folder/.ca"
  mv -f "$run/$folder/.ca" "$run/$folder/peer-ca.crt"
done
