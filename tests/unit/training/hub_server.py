"""A small server that speaks as much of the Hugging Face hub's API as its client library asks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OLD, NEW = "1" * 40, "2" * 40


@dataclass
class Hub:
    """What it has, and what it was asked."""

    #: OWNER/NAME -> branch, tag or commit -> the commit.
    revisions: dict[str, dict[str, str]] = field(default_factory=dict)
    #: (OWNER/NAME, commit) -> name of a file -> its content.
    files: dict[tuple[str, str], Mapping[str, bytes]] = field(default_factory=dict)
    #: OWNER/NAME -> the token that may read it.
    tokens: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    url: str = ""
    #: Files that were sent, and all headers of all requests.
    sent: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def add(self, repo: str, files: Mapping[str, bytes], commit: str = NEW, *names: str) -> None:
        known = self.revisions.setdefault(repo, {})
        known |= {commit: commit} | dict.fromkeys(names or ("main",), commit)
        self.files[repo, commit] = files

    @contextlib.contextmanager
    def served(self) -> Iterator[Hub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, headers, body = hub._answer(self.path, self.headers.get("Authorization"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)
                    if "ETag" in headers:
                        hub.sent.append(self.path.rpartition("/resolve/")[2].partition("/")[2])

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_told: Any) -> None:
                pass

        return Handler

    def _answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        if asked := parts[:2] == ["api", "models"]:
            parts = parts[2:]
        named = 1 if parts[0] in self.revisions else 2  # the oldest models have no owner
        repo, parts = "/".join(parts[:named]), parts[named:]
        what, revision, *rest = (*parts, "revision", "main")[:99]
        rest = rest[: len(parts) - 2]
        token = self.tokens.get(repo)
        if repo not in self.revisions or (token and authorization != f"Bearer {token}"):
            return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if repo in self.gated and (not asked or what == "tree"):
            return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
        commit = self.revisions[repo].get(revision)
        if commit is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        files = self.files[repo, commit]
        if what == "resolve":
            content = files["/".join(rest)]
            etag = hashlib.sha256(content).hexdigest()
            return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, content
        told: Any = {"id": repo, "sha": commit, "siblings": [{"rfilename": one} for one in files]}
        if what == "tree":
            told = [
                {"type": "file", "path": name, "size": len(content),
                 "oid": hashlib.sha1(content, usedforsecurity=False).hexdigest()}
                for name, content in files.items()
            ]  # fmt: skip
        return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
