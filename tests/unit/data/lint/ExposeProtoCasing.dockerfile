FROM scratch
EXPOSE 80/TcP 90/udp
