"""Push a model to the Hugging Face hub: a release as it is, or a model in memory with what can be said of it.

One commit holds all files of the model and deletes those that another model left. Only these files are pushed, whatever
else lies in the folder. Nothing is pushed that does not load with the identity that it is published with.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from codec.errors import ConfigError, ModelError, require
from codec.inference.fingerprint import FINGERPRINT_FILE, sign_model
from codec.inference.hub import HubName, explain, parse_name
from codec.inference.pretrained import CONFIG_FILE, ENTROPY_FILE, WEIGHTS_FILE, load_codec, save_codec
from codec.jsonfile import read_json
from codec.model.codec import Codec
from codec.model.digest import model_identity, with_identity
from codec.progress import hides_all
from codec.release.card import CARD_FILE, describe_weights
from codec.release.metadata import FENCE, metadata_block

FILES = (CONFIG_FILE, WEIGHTS_FILE, ENTROPY_FILE, FINGERPRINT_FILE, CARD_FILE)
_COMMAND = re.compile(r"^( +codec-\w+ .*--model )\S+$", re.MULTILINE)  # how to use it, in the card


class Pushed(NamedTuple):
    """Result of `push_to_hub`."""

    name: str
    """`owner/name@commit`, which loads this very model for ever."""
    url: str
    """Page of the commit."""


def push_to_hub(model: Codec | str | Path, name: str, *, private: bool = False, message: str | None = None) -> Pushed:
    """Push a model to the hub; the repository, and the branch, are created if they are not there.

    Args:
        model: The folder of a release, or a model.
        name: `owner/name`, or `owner/name@branch`.
        private: Only its owner can read the repository.
        message: Of the commit.

    Raises:
        ConfigError: `huggingface_hub` is not installed, the name is none, or the repository is public and `private` is
            asked for.
        ModelError: The folder is no complete release, the model does not load from it, or the hub refuses it.
    """
    target, library = check_target(name), require("huggingface_hub", "hub")
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(model, Codec):
            folder = Path(scratch) / target.repository
            codec = _write(model, folder)
        else:
            folder = Path(model)
            codec = _load_release(folder)
        files = _contents(codec, folder, target)
        try:
            return _commit(library, target, files, private, message or f"Model {model_identity(codec).hex()[:12]}")
        except (ConfigError, ModelError):
            raise
        except Exception as error:  # of the library, and of the transports below it
            raise ModelError(f"nothing was pushed: {explain(error, target)}") from error


def check_target(name: str) -> HubName:
    """Check what can be checked before there is a model to push: the name, and that `huggingface_hub` is installed.

    Raises:
        ConfigError: One of them is not so.
    """
    require("huggingface_hub", "hub")
    target = parse_name(name)
    if target is None:
        raise ConfigError(f"{name!r} is no name of a repository on the hub: give owner/name or owner/name@branch")
    return target


def _load_release(folder: Path) -> Codec:
    """Load a release, which checks its identity and its fingerprint.

    Raises:
        ModelError: A file is missing, damaged, or of another model.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder} is no complete release, it lacks {', '.join(missing)}: make one with  codec-release RUN -o DIR"
        )
    codec = with_identity(load_codec(folder))
    if model_identity(codec).hex() not in (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace"):
        raise ModelError(f"{folder / CARD_FILE} describes another model: get all files of the release anew")
    return codec


def _write(model: Codec, folder: Path) -> Codec:
    """Write the folder of a model as a release has it, with a card that states what is known; return what it loads."""
    save_codec(model, folder)
    codec = with_identity(load_codec(folder))
    sign_model(codec, folder)
    card = metadata_block(codec, folder.name, licence=None) + describe_weights(codec, folder.name, folder)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    return codec


def _contents(codec: Codec, folder: Path, target: HubName) -> dict[str, Path | bytes]:
    """What is pushed, by file: the card names the model as the hub does, and what the first releases lack is added."""
    fingerprint = read_json(folder / FINGERPRINT_FILE) | {"identity": model_identity(codec).hex()}
    card = (folder / CARD_FILE).read_text(encoding="utf-8", errors="replace")
    card = card if card.startswith(FENCE) else metadata_block(codec, folder.resolve().name) + card
    card = _COMMAND.sub(rf"\g<1>{target.repository}", card)
    made = {FINGERPRINT_FILE: f"{json.dumps(fingerprint)}\n".encode(), CARD_FILE: card.encode()}
    return {name: folder / name for name in FILES if (folder / name).is_file()} | made


def _commit(library: Any, target: HubName, files: dict[str, Path | bytes], private: bool, message: str) -> Pushed:
    """Make one commit of the files; errors are those of the library, but for a repository that is public."""
    api, repository, branch = library.HfApi(), target.repository, target.revision
    api.create_repo(repository, private=private or None, exist_ok=True)
    if private and not api.model_info(repository).private:
        raise ConfigError(f"{repository} is there and public: make it private on its page, or push to another name")
    if branch is not None:
        api.create_branch(repository, branch=branch, exist_ok=True)
    left = set(api.list_repo_files(repository, revision=branch)) & set(FILES) - files.keys()
    operations = [library.CommitOperationAdd(name, content) for name, content in files.items()]
    operations += [library.CommitOperationDelete(name) for name in sorted(left)]
    with _bars_as_asked():
        commit = api.create_commit(repository, operations, commit_message=message, revision=branch)
    return Pushed(f"{repository}@{commit.oid}", str(commit.commit_url))


@contextlib.contextmanager
def _bars_as_asked() -> Iterator[None]:
    """Hide the progress bars of the library where a command shows none: pushing takes no class for them."""
    utils, constants = (require(f"huggingface_hub.{module}", "hub") for module in ("utils", "constants"))
    hidden = hides_all() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not utils.are_progress_bars_disabled()
    if hidden:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        if hidden:
            utils.enable_progress_bars()
