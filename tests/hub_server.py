"""A local server that speaks the Hugging Face Hub's protocol, for its real client.

Files are a folder's: OWNER/NAME/FILE. What a hub does wrong or refuses is set by file
or repository. It takes uploads as the hub does: large files first, then a commit.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40
LARGE = (".safetensors", ".keras", ".png")  # kept as the hub keeps large files


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        root: folder of the repositories.
        faults: path or repository -> what goes wrong: an HTTP status, "gated", "cut",
            "wrong", "redirect".
        seen: requests, as (method, path, range, token).
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.faults: dict[str, object] = {}
        self.seen: list[tuple[str, str, str | None, str | None]] = []
        self.uploads: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, code, body=b"", **headers):
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(code)
        length = headers.pop("Content_Length", len(body))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.note()
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        if self.path.startswith("/cdn/"):
            return self.content(self.server.root / self.path.removeprefix("/cdn/"))
        if not match:
            return self.answer(404, {"error": "Not Found"})
        repository, revision, name = match.groups()
        faults = self.server.faults
        fault = faults.get(f"{repository}/{name}", faults.get(repository))
        path = self.server.root / repository / name
        if fault == "gated":
            return self.answer(403, X_Error_Code="GatedRepo")
        if isinstance(fault, int):
            return self.answer(fault)
        if not path.parent.is_dir():
            return self.answer(404, X_Error_Code="RepoNotFound")
        if revision not in ("main", "v1", COMMIT):
            return self.answer(404, X_Error_Code="RevisionNotFound")
        if not path.is_file():
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        if fault == "redirect" and self.command == "HEAD":
            return self.answer(
                302,
                Location=f"{self.server.url}/cdn/{repository}/{name}",
                **self.described(path),
            )
        return self.content(path, fault)

    def described(self, path):
        data = path.read_bytes()
        kind = "sha256" if path.suffix in LARGE else "sha1"
        return {
            "X_Repo_Commit": COMMIT,
            "X_Linked_Etag": f'"{hashlib.new(kind, data).hexdigest()}"',
            "X_Linked_Size": len(data),
            "ETag": '"plain"',
        }

    def content(self, path, fault=None):
        headers = self.described(path)
        data = path.read_bytes()
        if fault == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        start, code = 0, 200
        if found := re.match(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start, code = int(found[1]), 206
            headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        if fault == "cut" and self.command == "GET":
            # Half of what was announced, once.
            self.server.faults.pop(
                f"{path.parent.parent.name}/{path.parent.name}/{path.name}", None
            )
            self.answer(
                code, body[: len(body) // 2], Content_Length=len(body), **headers
            )
            self.close_connection = True
            return None
        return self.answer(code, body, Accept_Ranges="bytes", **headers)

    def do_POST(self):
        self.note()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "authorization" not in {name.lower() for name in self.headers}:
            return self.answer(401, {"error": "Unauthorized"})
        if self.path == "/api/repos/create":
            given = json.loads(body)
            owner = given.get("organization") or "me"
            name = f"{owner}/{given['name']}"
            (self.server.root / name).mkdir(parents=True, exist_ok=True)
            return self.answer(200, {"url": f"{self.server.url}/{name}", "name": name})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/.+", self.path):
            files = json.loads(body)["files"]
            return self.answer(200, {"files": [
                {"path": f["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular"}
                for f in files
            ]})  # fmt: skip
        if self.path.endswith(".git/info/lfs/objects/batch"):
            objects, place = json.loads(body)["objects"], f"{self.server.url}/put"
            return self.answer(200, {"transfer": "basic", "objects": [
                {"oid": each["oid"], "size": each["size"], "authenticated": True,
                 "actions": {"upload": {"href": f"{place}/{each['oid']}"}}}
                for each in objects
            ]})  # fmt: skip
        if found := re.fullmatch(r"/api/models/(.+)/commit/.+", self.path):
            folder = self.server.root / found[1]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    (folder / value["path"]).parent.mkdir(exist_ok=True)
                    (folder / value["path"]).write_bytes(
                        base64.b64decode(value["content"])
                    )
                elif line["key"] == "lfsFile":
                    (folder / value["path"]).parent.mkdir(exist_ok=True)
                    (folder / value["path"]).write_bytes(
                        self.server.uploads[value["oid"]]
                    )
            url = f"{self.server.url}/{found[1]}/commit/{COMMIT}"
            return self.answer(200, {"commitUrl": url, "commitOid": COMMIT,
                                     "hookOutput": ""})  # fmt: skip
        return self.answer(200, {})

    def do_PUT(self):
        self.note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.uploads[oid] = body
        return self.answer(200)

    def note(self):
        self.server.seen.append(
            (self.command, self.path, self.headers.get("Range"),
             self.headers.get("Authorization"))
        )  # fmt: skip


@contextlib.contextmanager
def served(root: Path):
    """A hub of a folder."""
    hub = Hub(root)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


@contextlib.contextmanager
def addressed(hub: Hub, cache: Path):
    """What HF_ENDPOINT and HF_HUB_CACHE set when the client is imported."""
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    changes = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_XET": True,
    }
    before = {name: getattr(constants, name) for name in changes}
    disable_progress_bars()
    try:
        for name, value in changes.items():
            setattr(constants, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)
