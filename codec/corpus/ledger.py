"""What a corpus run has promised and which recordings failed: files in its folder, from which it is resumed.

    corpus.json   corpus, model and settings: what must be equal for codes to go together
    bad.jsonl     a line for each recording that failed, with the reason

What has been encoded is known from the output itself, which grows by complete files only.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from codec.corpus.sources import Source
from codec.errors import ConfigError
from codec.files import replace_text, write_errors
from codec.jsonfile import append_json_lines, json_lines, read_json

CORPUS_FILE, BAD_FILE, LOCK_FILE = "corpus.json", "bad.jsonl", ".lock"
VERSION = 1


def corpus_facts(sources: Sequence[Source]) -> dict[str, Any]:
    """Identity of a corpus: the names of its recordings, in any order."""
    digest = hashlib.sha256()
    for name in sorted(source.name for source in sources):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    return {"version": VERSION, "corpus": digest.hexdigest(), "recordings": len(sources)}


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder, which is created, until the context ends or the process dies.

    Raises:
        ConfigError: Another run is writing there.
        WriteError: The folder can't be written.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(f"another run is writing to {folder}: wait for it, or name another folder") from error
    try:
        yield
    finally:
        lock.release()


class Ledger:
    """The record of a run in a folder.

    Args:
        folder: It exists, and this process has locked it.
        facts: What must be equal, see `corpus_facts`, with the model and the settings.
        resume: Go on with what is there.

    Raises:
        ConfigError: The folder holds a run, and `resume` is False or it is of another corpus, model or setting.
        WriteError: The folder can't be written.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], *, resume: bool) -> None:
        self._bad = folder / BAD_FILE
        stored = read_facts(folder)
        if stored is None:
            replace_text(folder / CORPUS_FILE, json.dumps(facts, indent=2) + "\n")
            return
        if not resume:
            raise ConfigError(f"{folder} holds a tokenised corpus already", resume=True)
        differing = next((name for name in facts if stored.get(name) != facts[name]), None)
        if differing is not None:
            raise ConfigError(
                f"{folder} holds codes of another {differing} ({stored.get(differing)}, not {facts[differing]}): "
                "name another folder with -o"
            )

    def bad(self) -> dict[str, str]:
        """Recordings that failed, with the reason."""
        if not self._bad.exists():
            return {}
        found = {}
        for line in json_lines(self._bad):
            with contextlib.suppress(KeyError, TypeError):  # a damaged line
                found[str(line["path"])] = str(line["reason"])
        return found

    def add_bad(self, bad: Iterable[tuple[str, str]]) -> None:
        """Record recordings that failed, and why; they are on the disk when this returns.

        Raises:
            WriteError: The file can't be written.
        """
        lines = [{"path": name, "reason": reason} for name, reason in bad]
        if lines:
            with write_errors(self._bad):
                append_json_lines(self._bad, lines)


def read_facts(folder: Path) -> dict[str, Any] | None:
    """What a run wrote about its corpus, model and settings; None if the folder holds no run.

    Raises:
        ConfigError: The file is damaged.
    """
    path = folder / CORPUS_FILE
    try:
        facts = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is damaged ({error}): remove it, and the shards with it, or get it again") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("version"), int):
        raise ConfigError(f"{path} was not written by codec-encode: name another folder with -o")
    return facts
