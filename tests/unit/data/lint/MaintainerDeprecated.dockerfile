FROM scratch
MAINTAINER me <x@y>
