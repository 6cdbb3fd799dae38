"""A forward proxy of the tests' own: CONNECT and whole URLs, for names that only it knows, for those who know its password."""

import base64
import select
import socket
import urllib.parse

import http_server


class Asked(http_server.Handler):
    def may(self):
        users = self.server.owner.users
        kind, _, text = self.headers.get("Proxy-Authorization", "").partition(" ")
        user, _, password = base64.b64decode(text).decode().partition(":") if kind == "Basic" else ("", "", "")
        if users is None or (user and users.get(user) == password):
            return True
        self.reply(407, Proxy_Authenticate='Basic realm="tests"')
        return False

    def dial(self, host):
        address = self.server.owner.names.get(host)
        if not self.may():
            return None
        if not address:
            self.reply(502)
            return None
        name, _, port = address.rpartition(":")
        self.close_connection = True
        return socket.create_connection((name, int(port)))

    def do_CONNECT(self):
        self.server.owner.asked.append(f"CONNECT {self.path}")
        if other := self.dial(self.path):
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            pass_on(self.connection, other)

    def any(self):
        self.server.owner.asked.append(f"{self.command} {self.path}")
        url = urllib.parse.urlsplit(self.path)
        other = self.dial(url.netloc if ":" in url.netloc else url.netloc + ":80")
        if not other:
            return
        head = f"{self.command} {url.path}{'?' + url.query if url.query else ''} HTTP/1.1\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.headers.items() if not name.lower().startswith("proxy-") and name.lower() != "connection")
        has_body = self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers
        pass_on(self.connection, other, head.encode() + b"\r\n" + (self.rfile.peek() if has_body else b""))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = any


class Proxy(http_server.Server):
    """names: {"host:port": "127.0.0.1:port"}; asked: ["CONNECT host:port", "GET http://…"]; users: {"user": "password"}, or None: anybody."""

    def __init__(self, names, users=None):
        self.names, self.users, self.asked = names, users, []
        super().__init__(Asked)


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
