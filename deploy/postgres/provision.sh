#!/bin/sh
# Makes the product's database: a role and a schema a service, so that none sees another's, and a role for migrations that
# may take theirs. Changes nothing that is so already, and sets the passwords to what the files say.
#   provision.sh [FOLDER]     FOLDER/<service>, FOLDER/migrate: passwords; FOLDER/postgres: that of who runs it, if needed
# Where, and as whom: PGHOST, PGPORT, PGUSER as psql takes them: a superuser, or one with CREATEDB and CREATEROLE.
set -eu
secrets=${1:-/run/secrets}
if [ -s "$secrets/postgres" ]; then
  PGPASSWORD=$(cat "$secrets/postgres")
  export PGPASSWORD
fi
# That something is there already is no news.
export PGOPTIONS="--client-min-messages=warning"
services="identity catalog testing evidence intel analytics deception"
sql() { psql --no-psqlrc --quiet --no-password --set=ON_ERROR_STOP=1 --dbname="$1"; }

sql postgres <<'SQL'
SELECT 'CREATE DATABASE aegis' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'aegis')\gexec
SQL

# Passwords go through standard input: a command line is seen by everyone.
role() {
  case $2 in
    '' | *[!A-Za-z0-9._~-]*) echo "the password of $1 may have letters, digits and . _ ~ - only" >&2; return 1 ;;
  esac
  cat <<SQL
SELECT 'CREATE ROLE $1' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$1')\gexec
ALTER ROLE $1 LOGIN PASSWORD '$2';
\if :superuser
ALTER ROLE $1 NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
\else
-- Where PostgreSQL is managed, nobody is a superuser, and only a member of a role may give it a schema.
GRANT $1 TO CURRENT_USER;
\endif
GRANT CONNECT ON DATABASE aegis TO $1;
SQL
}
statements() {
  echo "SELECT rolsuper AS superuser FROM pg_roles WHERE rolname = CURRENT_USER \\gset"
  echo "BEGIN;"
  echo "REVOKE ALL ON DATABASE aegis FROM PUBLIC;"
  echo "REVOKE ALL ON SCHEMA public FROM PUBLIC;"
  role aegis_migrate "$(cat "$secrets/migrate")" || return 1
  echo "ALTER ROLE aegis_migrate NOINHERIT;"
  for service in $services; do
    role "aegis_$service" "$(cat "$secrets/$service")" || return 1
    echo "CREATE SCHEMA IF NOT EXISTS $service AUTHORIZATION aegis_$service;"
    echo "ALTER ROLE aegis_$service SET search_path = $service;"
    echo "GRANT aegis_$service TO aegis_migrate;"
  done
  echo "COMMIT;"
}
# All of them are made before the first is run: a pipe only says how its last part ended.
made=$(statements)
printf '%s\n' "$made" | sql aegis
echo "the database aegis has a role and a schema for each of: $services"
