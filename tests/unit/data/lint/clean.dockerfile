# syntax=docker/dockerfile:1
ARG TAG=1
FROM known:${TAG} AS build
ARG v
ENV PATH=$PATH:/x
COPY kept /$v
CMD ["x"]
