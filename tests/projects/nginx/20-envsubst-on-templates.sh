#!/bin/sh
set -e
for template in /etc/nginx/templates/*.template; do
    envsubst "\$GREETING" <"$template" >"/etc/nginx/conf.d/$(basename "$template" .template)"
done
