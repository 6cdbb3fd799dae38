FROM scratch
ENV DEPS x y
LABEL a b
ENV a=b
