# syntax=docker/dockerfile:1
# check=skip=all
ARG GREETING=hi
FROM --platform=$BUILDPLATFORM bb:1 AS build
RUN <<EOF
echo one
echo two
EOF
RUN cat <<one <<-"two" 3<<three > /all
first $GREETING
one
		second
	two
last
three
RUN python3 <<-EOF
	#!/usr/bin/env python3
	print("x")
	EOF
COPY --chmod=u+x,go=rX --link --parents --exclude=*.md --exclude=**/.git ./src/./a/** /dst/
COPY <<a.txt <<'b' plain /inline/
hello $GREETING
a.txt
raw $GREETING
b
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d --unpack https://example.com/x.tgz /
ADD --keep-git-dir=true --unpack=false https://example.com/x.git#v1:sub /src
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=secret,id=key --network=none --security=sandbox apt-get
RUN --mount=type=bind,from=build,source=/x,target=/y echo $((1<<3)) "<<EOF" '<<EOF'
ONBUILD RUN <<EOF
echo trigger
EOF
HEALTHCHECK --start-interval=2s --interval=10s CMD ["x"]
