FROM scratch AS BuilderBase
COPY a /
FROM scratch AS lower
