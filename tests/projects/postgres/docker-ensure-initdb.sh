#!/usr/bin/env bash
set -Eeuo pipefail
[ ! -s "$PGDATA/PG_VERSION" ] || exit 0
initdb --username=postgres --auth=trust --no-sync >/dev/null
echo 'host all all all trust' >>"$PGDATA/pg_hba.conf"
