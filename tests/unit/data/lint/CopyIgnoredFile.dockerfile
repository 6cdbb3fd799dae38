FROM scratch
COPY ./tmp/Dockerfile /
ADD tmp/helloworld.txt /
COPY kept /
COPY --from=0 tmp/x /
ADD https://example.com/tmp/x /
COPY . /
