"""Find ONNX Runtime for browsers: one file of WebAssembly, of exactly the version that the page was built with."""

import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from codec.errors import ConfigError, one_line

BUNDLE = Path(__file__).with_name("bundle")
PACKAGE = "onnxruntime-web"
_TIMEOUT_S = 60


class Runtime(NamedTuple):
    """What the page was built with; the build writes it to bundle/runtime.json."""

    version: str
    file: str
    """Name of the file in the folder `dist` of the package."""
    sha256: str


def expected_runtime() -> Runtime:
    """The runtime that the page needs."""
    return Runtime(**json.loads((BUNDLE / "runtime.json").read_text(encoding="utf-8")))


def find_runtime(given: str | None = None) -> bytes:
    """Read the WebAssembly of the runtime and check it.

    Args:
        given: Folder of the npm package, the file itself, or a URL of it. If None, the package is looked for in
            `node_modules` and `web/node_modules`, here and at the root of a checkout.

    Raises:
        ConfigError: It is not there, can't be read or fetched, or is of another version.
    """
    expected = expected_runtime()
    if given is not None and given.startswith(("https://", "http://")):
        found = _fetch(given)
    else:
        path = _locate(expected, given)
        try:
            found = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"can't read {path}: {error.strerror or error}") from error
    if hashlib.sha256(found).hexdigest() != expected.sha256:
        name = given if given is not None else PACKAGE
        raise ConfigError(f"{name} is not {PACKAGE} {expected.version}, which the page needs: {_install(expected)}")
    return found


def _locate(expected: Runtime, given: str | None) -> Path:
    if given is not None:
        path = Path(given)
        return path if path.is_file() else path / "dist" / expected.file
    for root in (Path(), Path("web"), Path(__file__).parents[2] / "web"):
        path = root / "node_modules" / PACKAGE / "dist" / expected.file
        if path.is_file():
            return path
    raise ConfigError(
        f"the page needs {PACKAGE}, which is not here: {_install(expected)}, or give --onnxruntime-web with its folder "
        f"or a URL of {expected.file}"
    )


def _install(expected: Runtime) -> str:
    return f"run  npm install {PACKAGE}@{expected.version}"


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
            content: bytes = response.read()
            return content
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise ConfigError(f"can't fetch {url}: {one_line(error)}") from error
