"""Members of a tar archive, of which none may be missing."""

import tarfile
from collections.abc import Iterator
from typing import BinaryIO

END = bytes(2 * tarfile.BLOCKSIZE)
"""What every archive ends with."""


def members(tar: tarfile.TarFile, file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive without compression; `tarfile` takes one that is cut at a header for complete.

    Args:
        tar: The archive, opened from `file`.
        file: Can seek.

    Raises:
        tarfile.TarError: The archive is damaged, or does not end as archives do.
    """
    yield from tar
    file.seek(tar.offset)
    if file.read(len(END)) != END:
        raise tarfile.ReadError(f"it is cut off, or damaged, at byte {tar.offset}")
