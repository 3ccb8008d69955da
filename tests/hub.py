"""A hub of models on this machine: the few requests of the Hugging Face hub that fetching a snapshot makes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = 1000  # bytes from which a file is stored as large ones are, under its sha256
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """`repos`: by id, the files of the one commit. `asked`: every request, as "METHOD path"; `gated`: ids that need
    consent."""

    def __init__(self, repos: Mapping[str, Mapping[str, bytes]]) -> None:
        self.repos = {name: dict(files) for name, files in repos.items()}
        self.revisions: dict[str, str] = {"main": COMMIT, "v1": COMMIT, COMMIT: COMMIT}
        self.asked: list[str] = []
        self.gated: set[str] = set()
        self.url = ""

    def fetched(self) -> list[str]:
        """Files whose bytes were sent."""
        return sorted(a.rpartition("/")[2] for a in self.asked if a.startswith("GET ") and "/resolve/" in a)


def entry(name: str, content: bytes) -> dict[str, Any]:
    """A file as the listing of a commit shows it."""
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    found: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": git}
    if len(content) >= LARGE:
        found["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return found


@contextmanager
def running(repos: Mapping[str, Mapping[str, bytes]]) -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub(repos)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            repo, rest = ("/".join(parts[2:4]), parts[4:]) if api else ("/".join(parts[:2]), parts[2:])
            files = hub.repos.get(repo)
            if files is None:
                return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
            revision = rest[1] if len(rest) > 1 else "main"
            if revision not in hub.revisions:
                return self.answer(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
            if api and rest[:1] == ["tree"]:
                return self.json([entry(name, content) for name, content in files.items()])
            if api:
                siblings = [{"rfilename": name} for name in files]
                return self.json({"_id": "1", "id": repo, "sha": hub.revisions[revision], "siblings": siblings})
            if repo in hub.gated:
                return self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
            facts = entry("/".join(rest[2:]), files["/".join(rest[2:])])
            headers = {"ETag": f'"{facts["oid"]}"', "X_Repo_Commit": hub.revisions[revision]}
            if "lfs" in facts:
                headers |= {"X_Linked_ETag": f'"{facts["lfs"]["oid"]}"', "X_Linked_Size": str(facts["size"])}
            self.answer(200, files[facts["path"]], **headers)

        def json(self, value: Any) -> None:
            self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
