"""A small Hugging Face hub on loopback: what `huggingface_hub` asks of the real one to load and to push models.

Repositories are dictionaries of commits. Safetensors lie on another host, as on the real hub, and are pushed by the
protocol of Git LFS; other files are in the repository itself.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_of_the_owner"
OWNER = "me"


@dataclass
class Repository:
    """Its commits, and who may read it."""

    commits: dict = field(default_factory=dict)
    """Files, a dictionary of bytes by path, by commit hash."""
    refs: dict = field(default_factory=dict)
    """Commit hash by branch or tag."""
    messages: dict = field(default_factory=dict)
    """Of the commits that were pushed, by hash."""
    private: bool = False
    gated: bool = False
    library: str | None = None

    def commit(self, files, branch="main"):
        """Make `files` the head of a branch; return the commit hash."""
        text = json.dumps([len(self.commits), sorted((path, git_hash(data)) for path, data in files.items())])
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[branch] = commit
        return commit

    def find(self, revision):
        """Commit hash of a branch, tag or commit; None if there is none."""
        return self.refs.get(revision) or (revision if revision in self.commits else None)


@dataclass
class Hub:
    """State of the hub, and the faults that a test wants."""

    repositories: dict = field(default_factory=dict)
    objects: dict = field(default_factory=dict)
    """LFS objects that were uploaded, by SHA-256."""
    requests: list = field(default_factory=list)
    """Method and path of every request."""
    url: str = ""
    cut: str = ""
    """File that is sent only half."""
    broken: bool = False
    """Whether every request fails with 500."""

    def add(self, name, files, **facts):
        """Make a repository with one commit; return it."""
        repository = self.repositories[name] = Repository(**facts)
        repository.commit(files)
        return repository


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_large(path):
    return path.endswith((".safetensors", ".bin"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._route()

    do_HEAD = do_POST = do_PUT = do_GET

    def _route(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        if parts.path != "/api/agent-harnesses":  # once a day, for its own statistics
            self.hub.requests.append((self.command, unquote(parts.path)))
        if self.hub.broken:
            return self._send(500)
        for pattern, method, handle in ROUTES:
            match = re.fullmatch(pattern, parts.path)
            if match and self.command in method:
                return handle(self, *map(unquote, match.groups()))
        return self._send(404)

    def _send(self, status, data=b"", **headers):
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body)}.items() | headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def _is_owner(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _find(self, name, revision):
        """Repository and commit that the sender may see; None, None after an answer that says why not."""
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._is_owner):
            self._send(404 if self._is_owner else 401, {"error": "not found"}, X_Error_Code="RepoNotFound")
            return None, None
        commit = repository.find(revision)
        if commit is None:
            self._send(404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
            return None, None
        return repository, commit

    # ---- Loading

    def info(self, name, revision="main"):
        repository, commit = self._find(name, revision)
        if repository:
            files = [{"rfilename": path} for path in sorted(repository.commits[commit])]
            facts = {"id": name, "modelId": name, "sha": commit, "private": repository.private, "siblings": files}
            self._send(200, facts | {"tags": [], "library_name": repository.library})

    def tree(self, name, revision):
        repository, commit = self._find(name, revision)
        if repository:
            entries = []
            for path, data in sorted(repository.commits[commit].items()):
                entry = {"type": "file", "path": path, "size": len(data), "oid": git_hash(data)}
                lfs = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                entries.append(entry | ({"lfs": lfs} if is_large(path) else {}))
            self._send(200, entries)

    def resolve(self, name, revision, path):
        repository, commit = self._find(name, revision)
        if not repository:
            return
        if repository.gated and not self._is_owner:
            return self._send(401, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        data = repository.commits[commit].get(path)
        if data is None:
            return self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        if is_large(path):
            sha256 = hashlib.sha256(data).hexdigest()
            self.hub.objects[sha256] = data[: len(data) // 2] if path == self.hub.cut else data
            host = self.hub.url.replace("127.0.0.1", "localhost")
            linked = {"X_Linked_Etag": f'"{sha256}"', "X_Linked_Size": len(data), "X_Repo_Commit": commit}
            return self._send(302, Location=f"{host}/objects/{sha256}", **linked)
        return self._send(200, data, ETag=f'"{git_hash(data)}"', X_Repo_Commit=commit)

    def stored(self, sha256):
        assert "Authorization" not in self.headers, "a token is not for another host"
        data, first = self.hub.objects[sha256], re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self._send(206 if first else 200, data[int(first[1]) :] if first else data)

    # ---- Pushing

    def _may_write(self, owner):
        if not self._is_owner:
            self._send(401, {"error": "Invalid username or password."})
        elif owner != OWNER:
            self._send(403, {"error": "Forbidden"}, X_Error_Message="no right to write here")
        return self._is_owner and owner == OWNER

    def create(self):
        facts = json.loads(self.body)
        name = f"{facts['organization']}/{facts['name']}"
        if self._may_write(facts["organization"]):
            is_new = name not in self.hub.repositories
            if is_new:
                self.hub.add(name, {}, private=facts.get("visibility") == "private" or facts.get("private") is True)
            self._send(200 if is_new else 409, {"url": f"{self.hub.url}/{name}"})

    def branch(self, owner, name, branch):
        if self._may_write(owner):
            refs = self.hub.repositories[f"{owner}/{name}"].refs
            self._send(409 if branch in refs else 200, {})
            refs.setdefault(branch, refs["main"])

    def validate(self):
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, owner, name, branch):
        if self._may_write(owner):
            files = json.loads(self.body)["files"]
            modes = [(file["path"], "lfs" if is_large(file["path"]) else "regular") for file in files]
            self._send(
                200, {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}
            )

    def batch(self, name):
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.url}/objects/{wanted['oid']}"}
            objects.append(wanted | ({} if wanted["oid"] in self.hub.objects else {"actions": {"upload": upload}}))
        self._send(200, {"transfer": "basic", "objects": objects})

    def store(self, sha256):
        assert hashlib.sha256(self.body).hexdigest() == sha256
        self.hub.objects[sha256] = self.body
        self._send(200)

    def commit(self, owner, name, branch):
        if not self._may_write(owner):
            return
        repository = self.hub.repositories[f"{owner}/{name}"]
        files, summary = dict(repository.commits[repository.refs[branch]]), ""
        for line in self.body.splitlines():
            kind, value = json.loads(line).values()
            if kind == "header":
                summary = value["summary"]
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files, branch)
        repository.messages[commit] = summary
        self._send(200, {"commitUrl": f"{self.hub.url}/{owner}/{name}/commit/{commit}", "commitOid": commit})


ROUTES = [
    (r"/api/models/([^/]+/[^/]+)", "GET", _Handler.info),
    (r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", "GET", _Handler.info),
    (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?", "GET", _Handler.tree),
    (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", ("GET", "HEAD"), _Handler.resolve),
    (r"/objects/(\w+)", ("GET", "HEAD"), _Handler.stored),
    (r"/api/repos/create", "POST", _Handler.create),
    (r"/api/models/([^/]+)/([^/]+)/branch/([^/]+)", "POST", _Handler.branch),
    (r"/api/validate-yaml", "POST", _Handler.validate),
    (r"/api/models/([^/]+)/([^/]+)/preupload/([^/]+)", "POST", _Handler.preupload),
    (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "POST", _Handler.batch),
    (r"/objects/(\w+)", "PUT", _Handler.store),
    (r"/api/models/([^/]+)/([^/]+)/commit/([^/]+)", "POST", _Handler.commit),
]


@contextlib.contextmanager
def serve():
    """Run a hub without repositories; yields its state."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def connect(monkeypatch, hub, home):
    """Point `huggingface_hub` in this process to a hub and to an empty home, without a token."""
    from huggingface_hub import constants  # late: it reads the environment

    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / "harnesses.json"), raising=False)
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
