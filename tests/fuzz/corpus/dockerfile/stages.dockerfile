ARG base=bb:1
FROM --platform=linux/amd64 $base AS One
RUN --mount=type=cache,target=/x make
FROM scratch
COPY --from=one --chown=1:2 --chmod=644 /f /g /
ADD ["a b", "/"]
from one
run cat /f
