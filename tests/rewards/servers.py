"""A real HTTP server on the loopback, which answers as a test tells it and remembers what it was asked."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that are gone."""

    def handle_error(self, request, client_address):
        pass


class Server:
    """Answers the POST of number k (from 1) with `answer(body, k)`: an object as JSON, bytes as they are, or (status,
    either). To answer nothing, raise ConnectionAbortedError.

    Attributes:
        seen: bodies of all requests, in order; `headers` likewise.
    """

    def __init__(self, answer):
        self.answer, self.seen, self.headers, self.lock = answer, [], [], threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append(body)
                    outer.headers.append({**self.headers, "path": self.path})
                    number = len(outer.seen)
                try:
                    given = outer.answer(body, number)
                except ConnectionAbortedError:
                    self.close_connection = True
                    return
                status, content = given if isinstance(given, tuple) else (200, given)
                content = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()


def lengths(body):
    """A number for each picture that depends on it alone: the length of what was sent."""
    return [float(len(sent)) for sent in body["images"]]
