#!/bin/sh
# Runs what is in /docker-entrypoint.d before the server.
set -e
if [ "$1" = nginx ]; then
    find /docker-entrypoint.d/ -follow -type f | sort -V | while read -r file; do
        if [ -x "$file" ]; then
            echo "$0: launching $file"
            "$file"
        else
            echo "$0: ignoring $file, not executable"
        fi
    done
    echo "$0: configuration complete; ready for start up"
fi
exec "$@"
