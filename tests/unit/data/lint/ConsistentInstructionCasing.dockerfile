FROM scratch
Copy a /
COPY b /
run ["x"]
