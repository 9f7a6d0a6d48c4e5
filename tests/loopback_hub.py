"""A hub on loopback: lists, redirects, ranges, and what goes wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef" * 2 + "01234567"


class LoopbackHub:
    """Serves ``repositories``: {"datasets/owner/name": {path: bytes}}.

    ``faults`` maps a path to what its next transfer does: "429", "cut"
    (ends halfway), "wrong" (other bytes of the same size), "endless", "500".
    ``private`` repositories need ``Bearer`` and ``secret``; files come from
    ``storage``, an address, where it is given. ``said`` changes headers of
    a file's listing.
    """

    def __init__(self, repositories: dict[str, dict[str, bytes]],
                 secret: str = "secret"):
        self.repositories, self.commit = repositories, COMMIT
        self.faults: dict[str, list[str]] = {}
        self.private, self.secret, self.storage = set(), secret, ""
        self.said: dict[str, str] = {}
        self.sent = 0
        self.requests: list[tuple[str, str, str | None]] = []
        self.tokens: list[str | None] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                hub.answer(self)

            do_HEAD = do_GET

            def do_POST(self):
                hub.receive(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever,
                         daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request) -> None:
        path = urlsplit(request.path).path
        self.requests.append((request.command, path,
                              request.headers.get("Range")))
        token = request.headers.get("Authorization")
        self.tokens.append(token)
        if (any(repo in path.replace("/resolve/", "/") + "/"
                for repo in self.private)
                and not path.startswith("/cdn")
                and token != f"Bearer {self.secret}"):
            return self.send(request, 401, b"{}",
                             X_Error_Code="RepoNotFound")
        for pattern, method in (
                (r"/api/(\w+/[^/]+/[^/]+)/revision/(.+)", self.revision),
                (r"/api/(datasets/[^/]+/[^/]+)", self.revision),
                (r"/api/(\w+/[^/]+/[^/]+)/tree/([^/]+)(?:/.+)?", self.tree),
                (r"/cdn/(\w+/[^/]+/[^/]+)/(.+)", self.content),
                (r"/(datasets/[^/]+/[^/]+)/resolve/(\w+)/(.+)",
                 self.resolve),
                (r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", self.resolve)):
            if found := re.fullmatch(pattern, path):
                return method(request, *found.groups())
        self.send(request, 404, b"{}")

    def receive(self, request) -> None:
        """What ``upload_folder`` asks for; files arrive in the commit."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        path = urlsplit(request.path).path
        repo = path.removeprefix("/api/").rpartition("/")[0].rpartition(
            "/")[0]
        if path == "/api/repos/create":
            row = json.loads(body)
            name = "/".join(filter(None, (row.get("organization"),
                                          row["name"])))
            self.repositories.setdefault(f"models/{name}", {})
            return self.json(request, {"url": f"{self.url}/{name}"})
        if "/preupload/" in path:
            return self.json(request, {"files": [
                {"path": one["path"], "uploadMode": "regular",
                 "shouldIgnore": False}
                for one in json.loads(body)["files"]]})
        for row in map(json.loads, body.splitlines()):
            if row["key"] == "file":
                self.repositories[repo][row["value"]["path"]] = (
                    base64.b64decode(row["value"]["content"]))
        name = repo.partition("/")[2]
        self.json(request, {"commitOid": self.commit, "success": True,
                            "commitUrl": f"{self.url}/{name}/commit/main"})

    def send(self, request, status, body=b"", **headers):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def json(self, request, content):
        self.send(request, 200, json.dumps(content).encode(),
                  Content_Type="application/json")

    def revision(self, request, repo, name="main"):
        if repo not in self.repositories or name not in ("main",
                                                         self.commit):
            return self.send(request, 404, b"{}",
                             X_Error_Code="RepoNotFound")
        self.json(request, {"id": repo.partition("/")[2], "sha": self.commit,
                            "siblings": [
                                {"rfilename": path, "size": len(data),
                                 "lfs": {"size": len(data), "sha256":
                                         hashlib.sha256(data).hexdigest(),
                                         "pointerSize": 130}}
                                for path, data
                                in self.repositories[repo].items()]})

    def tree(self, request, repo, name):
        rows = [{"type": "directory", "path": "files", "size": 0,
                 "oid": "0" * 40}]
        for path, data in self.repositories.get(repo, {}).items():
            git = hashlib.sha1(f"blob {len(data)}\0".encode() + data)
            row = {"type": "file", "path": path, "size": len(data),
                   "oid": git.hexdigest()}
            if path.endswith((".tar", ".pth", ".safetensors")):
                row["lfs"] = {"oid": hashlib.sha256(data).hexdigest(),
                              "size": len(data), "pointerSize": 130}
            rows.append(row)
        self.json(request, rows)

    def resolve(self, request, repo, name, path):
        if not repo.startswith("datasets/"):
            repo = f"models/{repo}"
        data = self.repositories.get(repo, {}).get(path)
        if data is None:
            return self.send(request, 404, b"",
                             X_Error_Code="EntryNotFound")
        large = path.endswith((".tar", ".pth", ".safetensors"))
        known = (hashlib.sha256(data) if large else
                 hashlib.sha1(f"blob {len(data)}\0".encode() + data))
        headers = {"X_Repo_Commit": self.commit,
                   "X_Linked_Size": str(len(data)),
                   "X_Linked_ETag": f'"{known.hexdigest()}"'} | self.said
        if large:
            storage = self.storage or self.url.replace("127.0.0.1",
                                                       "localhost")
            return self.send(request, 302, b"", **headers,
                             Location=f"{storage}/cdn/{repo}/{path}")
        if request.command == "HEAD":
            return self.send(request, 200, b"", **headers)
        self.content(request, repo, path)

    def content(self, request, repo, path):
        data = self.repositories[repo][path]
        waiting = self.faults.get(path)
        fault = waiting.pop(0) if waiting else ""
        if fault in ("429", "500"):
            return self.send(request, int(fault), b"", Retry_After="0")
        start, stop, status, headers = 0, len(data), 200, {}
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)",
                                 request.headers.get("Range", "")):
            start, status = int(found[1]), 206
            stop = min(int(found[2] or len(data)) + 1, len(data))
            headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        body = data[start:stop]
        if fault == "endless":  # 300 MB where few bytes are listed
            self.send(request, 200, Content_Length=str(300_000_000))
            try:
                for _ in range(300 if request.command == "GET" else 0):
                    request.wfile.write(bytes(1_000_000))
                    self.sent += 1_000_000
            except OSError:  # the other end has left
                request.close_connection = True
            return None
        if fault == "wrong":
            body = bytes(255 - x for x in body)
        if fault == "cut":
            request.close_connection = True
            self.sent += len(body) // 2
            return self.send(request, status, body[:len(body) // 2],
                             Content_Length=str(len(body)), **headers)
        self.sent += len(body)
        self.send(request, status, body, **headers)
