"""A server on this machine that answers like the Hugging Face hub, for the requests of huggingface_hub."""

import hashlib
import json
import re
from contextlib import contextmanager, suppress
from urllib.parse import unquote, urlsplit

from tests.loopback import answering

# Size from which a file is stored outside of git, with its SHA-256 as ETag, in bytes.
LARGE = 20_000
BOT = "SFconvertbot"
# Whether the answers contain the hashes of files; some mirrors of the hub leave them out.
HASHES = True


class Hub:
    """Repositories and requests.

    Attributes:
        commits: Id → commit → file name → content.
        refs: Id → branch or reference → commit.
        cards: Id → metadata of the model card.
        pulls: Id → pull requests, as the hub describes them.
        cut: Number of bytes of a large file after which the connection is closed; None for all.
        requests: Method, path and Range header of all requests.
    """

    def __init__(self):
        self.commits, self.refs, self.cards, self.pulls = {}, {}, {}, {}
        self.cut, self.requests = None, []

    def add(self, source, ref, files, **card):
        """Add a commit with these files to a repository, and return its hash."""
        text = json.dumps([source, ref, {name: hashlib.sha1(content).hexdigest() for name, content in files.items()}])
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits.setdefault(source, {})[commit] = files
        self.refs.setdefault(source, {})[ref] = commit
        if card:
            self.cards[source] = card
        return commit

    def add_pull(self, source, number, *, author=BOT, status="open"):
        pull = {
            "num": number,
            "title": "Adding `safetensors` variant of this model",
            "status": status,
            "isPullRequest": True,
            "createdAt": "2024-01-01T00:00:00.000Z",
            "repo": {"name": source, "type": "model"},
            "author": {"name": author},
        }
        self.pulls.setdefault(source, []).append(pull)

    def nested(self):
        """Return a regular expression of all file names in folders."""
        commits = (commit for of_source in self.commits.values() for commit in of_source.values())
        return "|".join(sorted({re.escape(name) for files in commits for name in files if "/" in name})) or "(?!)"

    def large_ranges(self):
        """Return the Range headers of the requests for the content of weights."""
        weights = (".safetensors", ".bin")
        return [found for method, path, found in self.requests if method == "GET" and path.endswith(weights)]


@contextmanager
def serving(hub):
    """Run the server, and yield its address."""
    with answering(lambda handler: _answer(handler, hub)) as address:
        yield address


def _answer(handler, hub):
    path = unquote(urlsplit(handler.path).path)
    hub.requests.append((handler.command, path, handler.headers.get("Range")))
    api = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/(revision|discussions|tree)(?:/(.+))?)?", path)
    file = re.fullmatch(rf"/([\w.-]+/[\w.-]+)/resolve/(.+?)/({hub.nested()}|[^/]+)", path)
    found = api or file
    if found is None or found[1] not in hub.commits:
        return _send(handler, 404, b"", {"X-Error-Code": "RepoNotFound"})
    source = found[1]
    if api and api[2] == "discussions":
        pulls = hub.pulls.get(source, [])
        return _send_json(handler, {"discussions": pulls, "count": len(pulls), "start": 0})
    revision = (api[3] if api else file[2]) or "main"
    commit = hub.refs[source].get(revision, revision)
    if commit not in hub.commits[source]:
        return _send(handler, 404, b"", {"X-Error-Code": "RevisionNotFound"})
    files = hub.commits[source][commit]
    if api:
        return _send_json(handler, _tree(files) if api[2] == "tree" else _info(hub, source, commit, files))
    if file[3] not in files:
        return _send(handler, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
    return _send_file(handler, hub, commit, files[file[3]])


def _info(hub, source, commit, files):
    siblings = []
    for name, content in files.items():
        lfs = {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}
        large = {"lfs": lfs} if len(content) >= LARGE else {}
        hashes = {"blobId": hashlib.sha1(content).hexdigest(), **large} if HASHES else {}
        siblings.append({"rfilename": name, "size": len(content), **hashes})
    card = hub.cards.get(source)
    return {"id": source, "sha": commit, "private": False, "tags": [], "siblings": siblings, "cardData": card}


def _tree(files):
    return [{"type": "file", "path": name, "size": len(text), "oid": "0" * 40} for name, text in files.items()]


def _send_file(handler, hub, commit, content):
    large = len(content) >= LARGE
    etag = _sha256(content) if large else hashlib.sha1(content).hexdigest()
    headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    if large:
        headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
    status, start = 200, 0
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    if wanted:
        status, start = 206, int(wanted[1])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    _send(handler, status, content[start:], headers, cut=hub.cut if large else None)


def _send_json(handler, content):
    _send(handler, 200, json.dumps(content).encode(), {"Content-Type": "application/json"})


def _send(handler, status, content, headers, cut=None):
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command == "GET":
        with suppress(ConnectionError):
            handler.wfile.write(content[:cut])
    if cut is not None and handler.command == "GET":
        handler.close_connection = True


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
