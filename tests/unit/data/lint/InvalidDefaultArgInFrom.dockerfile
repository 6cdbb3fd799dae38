ARG TAG
ARG GOOD=1
FROM busybox:${TAG}
FROM busybox:${GOOD}
FROM busybox:${TAG:-latest}
