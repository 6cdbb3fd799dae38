"""A forward proxy of the tests' own: CONNECT and whole URLs, for names that only it knows, for those who know its password."""

import base64
import http.server
import select
import socket
import threading
import urllib.parse


class Proxy:
    """names: {"host:port": "127.0.0.1:port"}; asked: ["CONNECT host:port", "GET http://…"]; users: {"user": "password"} or None."""

    def __init__(self, names, users=None):
        self.names, self.users, self.asked = names, users, []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def refuse(self, status, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def may(self):
                if proxy.users is None:
                    return True
                kind, _, text = self.headers.get("Proxy-Authorization", "").partition(" ")
                user, _, password = base64.b64decode(text).decode().partition(":") if kind == "Basic" else ("", "", "")
                if user and proxy.users.get(user) == password:
                    return True
                self.refuse(407, Proxy_Authenticate='Basic realm="tests"')
                return False

            def dial(self, host):
                address = proxy.names.get(host)
                if not address:
                    self.refuse(502)
                    return None
                name, _, port = address.rpartition(":")
                return socket.create_connection((name, int(port)))

            def do_CONNECT(self):
                proxy.asked.append(f"CONNECT {self.path}")
                other = self.may() and self.dial(self.path)
                if not other:
                    return
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()
                self.close_connection = True
                pass_on(self.connection, other)

            def any(self):
                proxy.asked.append(f"{self.command} {self.path}")
                url = urllib.parse.urlsplit(self.path)
                other = self.may() and self.dial(url.netloc if ":" in url.netloc else url.netloc + ":80")
                if not other:
                    return
                head = f"{self.command} {url.path}{'?' + url.query if url.query else ''} HTTP/1.1\r\nConnection: close\r\n"
                head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items() if not name.lower().startswith("proxy-") and name.lower() != "connection")
                other.sendall(head.encode() + b"\r\n")
                self.close_connection = True
                pass_on(self.connection, other, self.rfile.peek() if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers else b"")

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = any

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def pass_on(one, other, first=b""):
    """Bytes in both directions, until one side has ended."""
    with other:
        other.sendall(first)
        while True:
            for ready in select.select([one, other], [], [], 60)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (other if ready is one else one).sendall(data)
