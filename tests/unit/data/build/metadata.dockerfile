# escape=\
FROM bb:1
ENV a=1 b="x y" c=a\ b
ENV old style value
LABEL x=1 "y z"="w v"
MAINTAINER me <x@y>
EXPOSE 90 80/udp 7000-7002
VOLUME /data /x
VOLUME ["/j son"]
USER daemon:grp
WORKDIR sub
CMD echo "hi" \
    $a
CMD ["a","b \"q\""]
ENTRYPOINT ["e"]
STOPSIGNAL SIGUSR1
SHELL ["/bin/sh","-ec"]
HEALTHCHECK --interval=5s --timeout=90s --retries=3 --start-period=1m CMD echo hi
HEALTHCHECK NONE
ONBUILD   COPY   a   b
ARG foo=bar v
