"""What all loopback services share: a log, faults on demand, byte ranges."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import json
import re
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# Faults that a test can order: a status, or how the answer is spoiled.
DROP, TRUNCATE, GARBLE = "drop", "truncate", "garble"


class Answer(Exception):
    """An answer other than 200."""

    def __init__(self, status, body, **headers):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # callers of a busy machine who wait their turn


class Service:
    """A service at ``url``; ``with`` starts and ends it.

    ``log`` keeps a dict per request, refused ones too; ``faults`` is a list
    that is used up from its front, one per request (None: no fault).
    """

    def __init__(self, *, tls=None, busy_at=64, port=0):
        self.log, self.faults, self.busy_at = [], [], busy_at
        self.seconds = 0.0  # that an answer takes
        self.ranges = True  # whether parts can be had
        self.active = self.most = 0
        self._lock = threading.Lock()
        self._tls, self._port = tls, port

    def answer(self, call):
        """JSON, or bytes; raises :class:`Answer`."""
        raise Answer(404, {"message": "nothing here"})

    def error(self, status):
        """The service's own way to say a status."""
        return {"message": f"status {status}"}

    def __enter__(self):
        self.server = _Server(("127.0.0.1", self._port), handler_of(self))
        scheme = "http"
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._tls)
            self.server.socket = context.wrap_socket(self.server.socket,
                                                     server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever,
                         args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *gone):
        self.server.shutdown()
        self.server.server_close()

    def calls(self, text, *, done=True):
        """Requests whose path holds ``text``; ``done``: answered well."""
        return [call for call in self.log if text in call["path"]
                and (not done or call["status"] in (200, 201, 206))]


def handler_of(service):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words):
            pass

        def do_GET(self):
            self.reply("GET")

        def do_HEAD(self):
            self.reply("HEAD")

        def do_POST(self):
            self.reply("POST")

        def reply(self, method):
            parts = urlsplit(self.path)
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if len(body) < size:  # its sender was killed: no request
                self.close_connection = True
                return
            call = {"method": method, "path": parts.path, "status": None,
                    "address": self.path,
                    "query": parse_qs(parts.query),
                    "headers": {name.lower(): value for name, value in
                                self.headers.items()},
                    "body": json.loads(body) if body else None,
                    "size": size, "active": 1}
            with service._lock:
                service.log.append(call)
                service.active += 1
                service.most = max(service.most, service.active)
                crowded = service.active > service.busy_at
                fault = service.faults.pop(0) if service.faults else None
            try:
                time.sleep(service.seconds)
                self.finish_reply(call, 429 if crowded else fault)
            finally:
                self.leave(call)

        def leave(self, call):
            """No longer at work: before the caller can know the answer."""
            with service._lock:
                service.active -= call.pop("active", 0)

        def finish_reply(self, call, fault):
            if fault == DROP:
                call["status"] = DROP
                self.close_connection = True
                self.connection.close()
                return
            headers = {}
            try:
                if isinstance(fault, int):
                    raise Answer(fault, service.error(fault))
                body, status = service.answer(call), 200
                if call["method"] == "POST" and isinstance(body, str):
                    status = 201
            except Answer as other:
                body, status = other.body, other.status
                headers = other.headers
            kind = "application/json;charset=utf-8"
            if isinstance(body, str):
                body = body.encode()
            elif isinstance(body, bytes):
                kind = "application/octet-stream"
                body, status, headers = self.cut(call, body, status, headers)
            else:
                body = json.dumps(body).encode()
            if fault == GARBLE:
                body = b"<html>" + body[6:]
            call["status"] = fault if fault in (TRUNCATE, GARBLE) else status
            self.leave(call)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if fault == TRUNCATE:
                body = body[:len(body) // 2]
                self.close_connection = True
            if call["method"] != "HEAD":
                self.wfile.write(body)

        def cut(self, call, body, status, headers):
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)",
                                  call["headers"].get("range", ""))
            headers = {**headers, "Accept_Ranges": "bytes"}
            if not wanted or status != 200 or not service.ranges:
                return body, status, headers
            first = int(wanted[1])
            last = min(int(wanted[2] or len(body) - 1), len(body) - 1)
            if first >= len(body):
                return b"", 416, headers
            headers["Content_Range"] = f"bytes {first}-{last}/{len(body)}"
            return body[first:last + 1], 206, headers

    return Handler


class Endless(BaseHTTPRequestHandler):
    """Sends for ever: fast, packed, or a byte at a time."""

    def do_GET(self):
        kind = self.path[1:5]
        part = b'{"a": ' if kind != "bomb" else gzip.compress(b" " * 10**8)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        if kind == "bomb":
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        try:
            self.wfile.write(part)
            while kind != "bomb":
                self.wfile.write(b" " if kind == "drip" else b" " * 65536)
                time.sleep(0.05 if kind == "drip" else 0)
        except OSError:
            return

    do_POST = do_GET

    def log_message(self, *words):
        pass


@contextmanager
def without_end():
    """A service whose answers never end; its paths say how."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def certificate(folder):
    """A certificate for 127.0.0.1 with its key, as one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(True, None), True)
            .sign(key, hashes.SHA256()))
    path = folder / "loopback.pem"
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption())
        + cert.public_bytes(serialization.Encoding.PEM))
    return path
