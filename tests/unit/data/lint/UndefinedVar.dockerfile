FROM known AS k
ARG foo
COPY $foo .
COPY $fo .
ENV PATH=$PAHT:/app/bin set=$KNOWN
LABEL a=${gone:-default}
FROM k
WORKDIR /$set
USER $nothing
FROM unknown
ENV a=$may_be_set_by_the_image
