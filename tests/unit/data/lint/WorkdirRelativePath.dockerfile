FROM scratch
WORKDIR app
WORKDIR again
FROM scratch
WORKDIR /abs
WORKDIR rel
