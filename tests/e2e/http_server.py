"""HTTP servers of the tests' own: quiet, a thread for each connection, and not offended by clients that go away."""

import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        """One answer; "_" in names stands for "-"."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Quiet(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


class Server:
    """Runs until close(); handlers find it as self.server.owner."""

    def __init__(self, handler, address="127.0.0.1"):
        self.server = Quiet((address, 0), handler)
        self.server.owner = self
        self.port = self.server.server_address[1]
        self.host = f"{address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
