FROM scratch
ENTRYPOINT my-program start
FROM scratch
CMD my-program start
FROM scratch
SHELL ["/bin/bash", "-c"]
CMD of a shell that was chosen
HEALTHCHECK CMD x
