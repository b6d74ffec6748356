"""Models by their name on the Hugging Face hub, `owner/name` or `owner/name@revision`, through `huggingface_hub`.

Cache, offline mode, tokens and revisions are those of the library (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT).
Only the files that a model consists of are downloaded, the small ones first: a repository of another library is refused
before its weights are. Nothing but JSON and safetensors is ever read.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codec.errors import ConfigError, ModelError, require
from codec.jsonfile import read_json
from codec.progress import DownloadBar, HiddenBar

NESTED_CONFIG = "codec_config"
"""Key of our configuration in a `config.json` that transformers reads too, see `codec.adapters.for_transformers`."""
TRANSFORMERS_PREFIX = "transformers:"
"""Marks the folder of a codec of transformers where a command takes the name of one of ours."""
_PART = r"[A-Za-z0-9](?:[\w.-]*\w)?"
_NAME = re.compile(rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>\w[\w./-]*))?", re.ASCII)
_MAX_LENGTH = 96  # of a repository, by the rules of the hub
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class HubName(NamedTuple):
    """Name of a model on the hub."""

    repository: str
    """`owner/name`."""
    revision: str | None
    """Branch, tag or commit; the branch `main` if None."""

    def __str__(self) -> str:
        return self.repository if self.revision is None else f"{self.repository}@{self.revision}"


def parse_name(text: str) -> HubName | None:
    """Split `owner/name[@revision]`; None if the text is no such name by the rules of the hub."""
    match = _NAME.fullmatch(text)
    if match is None or len(match["repository"]) > _MAX_LENGTH or "--" in match["repository"] or ".." in text:
        return None
    return HubName(match["repository"], match["revision"])


def download(name: HubName, *, config: str, weights: str, others: Sequence[str]) -> Path:
    """Download a model into the cache of `huggingface_hub`, as far as it is not there.

    Args:
        name: Which one.
        config: Name of its configuration file.
        weights: Name of its weights.
        others: Names of small files that it may have.

    Returns:
        The folder in the cache that holds the files of this commit.

    Raises:
        ModelError: `huggingface_hub` is not installed, the model can't be had, or the repository holds no such model.
    """
    with _refusals(name):
        library = require("huggingface_hub", "hub")
        how = {"revision": name.revision, "allow_patterns": [config, *others], "tqdm_class": HiddenBar}
        with _only_errors():
            folder = Path(library.snapshot_download(name.repository, **how))
    if _is_ours(folder / config) and _has_weights(library, name, weights, folder.name):
        return folder
    raise ModelError(_describe_foreign(library, name, folder / config, weights))


def explain(error: Exception, name: HubName) -> str:
    """What an error of `huggingface_hub` means, and a remedy."""
    errors, constants = (require(f"huggingface_hub.{module}", "hub") for module in ("errors", "constants"))
    page = f"{constants.ENDPOINT}/{name.repository}"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    lines = filter(None, map(str.strip, str(error.__cause__ or error).splitlines()))
    reason = next(lines, type(error).__name__)
    if isinstance(error, errors.GatedRepoError):
        return f"{name.repository} is gated: ask for access at {page}, then log in with  hf auth login"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"you can't read {page}: check the name; if the repository is private, log in with  hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name.repository} has no revision {name.revision!r}: give a branch, a tag or a commit of {page}"
    if status in (401, 403):
        return f"you may not do this at {page}: log in with  hf auth login, by a token that may ({reason})"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE keeps off the network: unset it"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return "it is not in the cache, and HF_HUB_OFFLINE keeps off the network: unset it once to load the model"
        return f"{constants.ENDPOINT} can't be reached, nor is it in the cache: check name and connection ({reason})"
    if isinstance(error, OSError) and error.errno is not None:  # a full disk, say
        return f"it can't be stored in {constants.HF_HUB_CACHE}: make room, or set HF_HOME ({error.strerror})"
    return f"the transfer from or to {page} broke off: try again ({reason})"


def how_to_renew(folder: Path) -> str:
    """What replaces damaged files of a model in the cache of `huggingface_hub`; empty for any other folder."""
    match = re.fullmatch(r"models--(.+)--(.+)", folder.parent.parent.name)
    if folder.parent.name != "snapshots" or match is None:
        return ""
    return f": run  hf download {match[1]}/{match[2]} --revision {folder.name} --force-download"


@contextlib.contextmanager
def _refusals(name: HubName) -> Iterator[None]:
    """Raise every error of the library, and of the transports below it, as ModelError."""
    try:
        yield
    except ConfigError as error:  # huggingface_hub is not installed
        raise ModelError(f"no model {name} here, and to look for it on the hub: {error}") from error
    except Exception as error:
        raise ModelError(f"no model {name} here, and {explain(error, name)}") from error


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """Keep the library from logging that no file matches, which is said in one line afterwards."""
    logging = require("huggingface_hub.utils", "hub").logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _is_ours(config: Path) -> bool:
    """Whether a file is the configuration of one of our models, perhaps of a later version."""
    values = _read_or_empty(config)
    values = values.get(NESTED_CONFIG, values)  # perhaps for transformers too
    if not isinstance(values, dict):
        return False
    return isinstance(values.get("quantizer"), dict) and isinstance(values.get("sample_rate"), int)


def _has_weights(library: Any, name: HubName, weights: str, commit: str) -> bool:
    """Download the weights, if a commit has them and the cache has not."""
    errors = require("huggingface_hub.errors", "hub")
    with _refusals(name):
        try:
            library.hf_hub_download(name.repository, weights, revision=commit, tqdm_class=DownloadBar)
        except errors.EntryNotFoundError as error:
            if isinstance(error, errors.LocalEntryNotFoundError):  # it can't be reached, nor is it in the cache
                raise
            return False
    return True


def _describe_foreign(library: Any, name: HubName, config: Path, weights: str) -> str:
    """Say what a repository holds instead of one of our models, and what can be done."""
    files, maker = _list_files(library, name, config.parent.name)
    values = _read_or_empty(config)
    pickles = [file for file in files if file.endswith(_PICKLES)]
    if pickles and not any(file.endswith(".safetensors") for file in files):
        return f"{name} holds weights as a pickle only ({pickles[0]}), which could run code: ask for safetensors"
    if maker == "transformers" or {"model_type", "architectures", "transformers_version"} & values.keys():
        kind = f" ({values['model_type']})" if isinstance(values.get("model_type"), str) else ""
        return (
            f"{name} is a model of transformers{kind}: run  hf download {name.repository} --local-dir DIR  and give "
            f"{TRANSFORMERS_PREFIX}DIR"
        )
    if _is_ours(config) or not values:
        what = f"has no {weights if values else config.name}"
    else:
        what = f"is a model of {maker}" if maker else "is no model of this library"
    return f"{name} {what}: give a repository that codec-release --push has made"


def _list_files(library: Any, name: HubName, commit: str) -> tuple[list[str], str]:
    """Names of all files, and the name of the library that the model is for; nothing if the hub can't be reached."""
    try:
        info = library.HfApi().model_info(name.repository, revision=commit)
    except Exception:  # of the transports below the library, too
        return [], ""
    return [file.rfilename for file in info.siblings or []], info.library_name or ""


def _read_or_empty(config: Path) -> dict[str, Any]:
    try:
        values = read_json(config)
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
