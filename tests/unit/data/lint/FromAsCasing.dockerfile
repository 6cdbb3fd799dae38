FROM scratch as one
FROM scratch AS two
from scratch AS three
