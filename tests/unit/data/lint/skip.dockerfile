# check=skip=StageNameCasing,JSONArgsRecommended
FROM scratch AS Upper
# check=skip=WorkdirRelativePath why not
WORKDIR rel
CMD a
MAINTAINER x
