#!/bin/sh
# Makes the secrets that are missing: random ones, a folder a service, which holds what that service may know.
# docker-compose.yml runs it before all else; run by hand it does the same. To change one, write the new value into its
# file in run/values, run this again and start the services anew.
#   deploy/secrets/make.sh [FOLDER]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
run=${1:-$here/run}
umask 022

mkdir -p "$run/values"
# Nobody else of this machine gets past here; the containers are given the folders below.
chmod 700 "$run" "$run/values"

random() { head -c "${1:-24}" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# value NAME [BYTES]: the secret of this name, made now if there is none.
value() {
  if [ ! -s "$run/values/$1" ]; then
    random "${2:-24}" > "$run/values/$1.new"
    mv "$run/values/$1.new" "$run/values/$1"
  fi
  cat "$run/values/$1"
}

# give SERVICE FILE TEXT
give() {
  mkdir -p "$run/$1"
  printf '%s\n' "$3" > "$run/$1/.$2.new"
  chmod 444 "$run/$1/.$2.new"
  mv -f "$run/$1/.$2.new" "$run/$1/$2"
}

broker=$(value rabbitmq)
cache=$(value redis)
s3_id=$(value s3-access-key-id 10)
s3_secret=$(value s3-secret-access-key 32)
service=$(value service-secret 32)
admin=$(value admin-password 12)

for name in identity catalog testing evidence intel analytics deception; do
  password=$(value "postgres-$name")
  give "$name" database-url "postgres://aegis_$name:$password@postgres:5432/aegis"
  give postgres "$name" "$password"
done
password=$(value postgres-migrate)
give postgres migrate "$password"
# It may take each service's role, and takes it at once: what it makes belongs to the service.
give migrate database-url "postgres://aegis_migrate:$password@postgres:5432/aegis?options=-c%20role%3Daegis_{service}"
password=$(value postgres)
give postgres postgres "$password"

for name in identity catalog testing evidence intel analytics deception gateway; do
  give "$name" service-secret "$service"
  give "$name" broker-url "amqp://aegis:$broker@rabbitmq:5672/%2f"
done
give identity cache-url "redis://:$cache@redis:6379/0"
give identity admin-password "$admin"
for name in evidence deception s3 bucket; do
  give "$name" s3-access-key-id "$s3_id"
  give "$name" s3-secret-access-key "$s3_secret"
done
# For curl, which would show them to everybody on its command line.
give bucket curl "user = \"$s3_id:$s3_secret\""
give enroll admin-password "$admin"

give rabbitmq 20-aegis.conf "default_user = aegis
default_pass = $broker
log.console = true"
give redis redis.conf "requirepass $cache"
give redis password "$cache"
grafana=$(value grafana-admin)
give grafana admin-password "$grafana"
mkdir -p "$run/sensor"

# Made by a container as root, yet to be read by whoever this folder belongs to.
if [ "$(id -u)" -eq 0 ]; then
  chown -R "$(stat -c %u:%g "$here")" "$run"
fi
echo "The administrator's first password is in deploy/secrets/run/values/admin-password, Grafana's in grafana-admin."
