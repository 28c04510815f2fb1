#!/bin/sh
# Makes the API key with which the sensor hands events in: where there is none, where the product does not know the one that
# is there (its database was thrown away), and in the last month of the old. A sensor that runs takes the new one by itself.
set -eu
key=${AEGIS_SENSOR_FOLDER:-/sensor}/token
ends=${AEGIS_SENSOR_FOLDER:-/sensor}/.ends
api=${AEGIS_URL:-http://gateway:8000}/api/v1
lifetime=366

fail() { echo "$*" >&2; exit 1; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
# What is secret comes from files: a command line is seen by everyone.
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Whether the product still knows the key. The format does not exist: who is let in is told so, and nothing is handed in.
# An answer that says nothing of the key is no reason for another.
known() {
  printf 'header = "Authorization: Bearer %s"\n' "$(cat "$key")" > "$work/sensor"
  status=$(curl -sS --output /dev/null --write-out '%{http_code}' --retry 10 --retry-connrefused --retry-delay 2 \
    --max-time 20 --config "$work/sensor" --request POST "$api/ingest/none" || true)
  [ "$status" != 401 ]
}

holds=
if [ -s "$key" ] && known; then
  holds=yes
fi
now=$(date +%s)
if [ "$holds" ] && [ "$(cat "$ends" 2>/dev/null || echo 0)" -gt $((now + 30 * 86400)) ]; then
  echo "the sensor has its key"
  exit 0
fi

tr -d '\n' < "${AEGIS_SECRETS:-/run/secrets}/admin-password" > "$work/password"
curl -sS --retry 10 --retry-all-errors --retry-delay 2 --max-time 20 \
  --data-urlencode username=admin --data-urlencode "password@$work/password" "$api/auth/login" > "$work/login"
token=$(field access_token < "$work/login")
if [ -z "$token" ]; then
  if [ "$holds" ]; then
    echo "the administrator's password was changed; the sensor keeps the key that it has" >&2
    exit 0
  fi
  fail "the sensor has no key that holds, and the administrator's password was changed: make an API key of the role sensor" \
    "(POST /api/v1/users/{id}/api-keys) and write it to deploy/secrets/run/sensor/token"
fi
printf 'header = "Authorization: Bearer %s"\n' "$token" > "$work/curl"
user=$(curl -fsS --max-time 20 --config "$work/curl" "$api/auth/me" | sed -n 's/^{"id":"\([^"]*\)".*/\1/p')
[ -n "$user" ] || fail "the product does not say who is signed in"
curl -fsS --max-time 20 --config "$work/curl" --header 'Content-Type: application/json' \
  --data "{\"name\":\"sensor of Compose\",\"role\":\"sensor\",\"expires_in_days\":$lifetime}" \
  "$api/users/$user/api-keys" | field key | tr -d '\n' > "$work/key"
[ -s "$work/key" ] || fail "no key was made"
umask 022
cat "$work/key" > "$key.new"
echo $((now + lifetime * 86400)) > "$ends"
mv "$key.new" "$key"
echo "the sensor has a new key"
