"""A forge on loopback: git over HTTP by git's own `http-backend`, and the part of the REST interface that is used.

Statuses as in the interface's published description: 404 for what is not there, 201 for what was made, 409 and 422 for
what is there already, 401 without the right token.
"""

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

TOKEN = "dummy-forge-token-5d1f"
BASIC = "Basic " + base64.b64encode(f"hive:{TOKEN}".encode()).decode()


@dataclass
class ForgeServer:
    """`made`: bodies of what was made. `down`: answer 503 to everything. `open`: cleared, no git is answered."""

    root: Path
    url: str = ""
    orgs: set[str] = field(default_factory=set)
    made: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    down: bool = False
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def repo(self, name: str) -> Path:
        return self.root / f"{name}.git"

    def refs(self, name: str) -> dict[str, str]:
        """What a repository on the forge holds."""
        done = subprocess.run(
            ["git", f"--git-dir={self.repo(name)}", "show-ref"], capture_output=True, text=True, check=False
        )
        return {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}

    def rewrite(self, name: str) -> str:
        """Gives a repository's main another history; its new commit."""
        git = ["git", f"--git-dir={self.repo(name)}"]
        who = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        env = {"PATH": os.environ["PATH"], **who}
        tree = subprocess.run([*git, "mktree"], input=b"", env=env, capture_output=True, check=True).stdout
        command = [*git, "commit-tree", tree.decode().strip(), "-m", "theirs"]
        commit = subprocess.run(command, env=env, capture_output=True, check=True).stdout.decode().strip()
        subprocess.run([*git, "update-ref", "refs/heads/main", commit], env=env, check=True)
        return commit

    def spoil(self, name: str) -> None:
        """Puts something in a repository's place that is none."""
        self.repo(name).parent.mkdir()
        self.repo(name).write_text("no repository\n")


@contextmanager
def forge_server(root: Path) -> Iterator[ForgeServer]:
    forge = ForgeServer(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self._body())

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length", 0)))
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole

        def _serve(self, body: bytes) -> None:
            forge.asked.append(f"{self.command} {self.path}")
            if forge.down:
                self._say(503)
            elif self.path.startswith("/api/v1/"):
                self._api(self.path.removeprefix("/api/v1"), body)
            elif not forge.open.wait(30):
                self._say(503)
            elif self.headers.get("authorization") != BASIC:
                self._say(401)
            else:
                self._git(body)

        def _api(self, path: str, body: bytes) -> None:
            if self.headers.get("authorization") != f"token {TOKEN}":
                self._say(401)
                return
            said = msgspec.json.decode(body) if body else {}
            match (self.command, *path.strip("/").split("/")):
                case ("GET", "orgs", org):
                    self._say(200 if org in forge.orgs else 404)
                case ("POST", "orgs"):
                    self._say(422 if said["username"] in forge.orgs else 201)
                    forge.orgs.add(said["username"])
                    forge.made.append(said)
                case ("GET", "repos", org, name):
                    self._say(200 if forge.repo(f"{org}/{name}").exists() else 404)
                case ("POST", "orgs", org, "repos"):
                    place = forge.repo(f"{org}/{said['name']}")
                    if org not in forge.orgs or place.exists():
                        self._say(404 if org not in forge.orgs else 409)
                        return
                    subprocess.run(["git", "init", "--quiet", "--bare", str(place)], check=True)
                    subprocess.run(
                        ["git", f"--git-dir={place}", "config", "http.receivepack", "true"], check=True
                    )
                    forge.made.append(said)
                    self._say(201)
                case _:
                    self._say(404)

        def _git(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(forge.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("content-type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
                "REMOTE_USER": "hive",
                "REMOTE_ADDR": "127.0.0.1",
            }
            done = subprocess.run(
                ["git", "http-backend"], input=body, env=env, capture_output=True, check=False
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self._say(int(headers.pop("Status", "200").split()[0]), content, headers)

        def _say(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            if status == 401:
                self.send_header("www-authenticate", 'Basic realm="forge"')
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    forge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield forge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
