ARG VERSION=1
FROM alpine:${VERSON}
FROM --platform=$BUILDPLATFORM alpine:$VERSION
FROM x$nothing_like_it
