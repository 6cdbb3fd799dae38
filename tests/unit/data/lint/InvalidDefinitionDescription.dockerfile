# check=experimental=InvalidDefinitionDescription
# bar tells of bar
ARG bar
# what is this
ARG foo=1

# base is the base
FROM scratch AS base
# Stage two
FROM scratch AS two

#
# not of it
#
ARG alone
# one of several
ARG a b
