#!/usr/bin/env bash
# Makes the database when there is none, steps down from root, runs what is in /docker-entrypoint-initdb.d.
set -Eeo pipefail
if [ "$1" = postgres ] && [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    find "$PGDATA" \! -user postgres -exec chown postgres '{}' +
    chmod 00700 "$PGDATA"
    exec gosu postgres "$BASH_SOURCE" "$@"
fi
[ "$1" != postgres ] || docker-ensure-initdb.sh
exec "$@"
