"""Files of codes as the commands write them, and the line that tells of one."""

from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.jobs import Outcome

if TYPE_CHECKING:
    from codec.bitstream import Bitstream, Header


def write_file(target: Path, bitstream: "Bitstream", overwrite: bool) -> Outcome:
    """Write codes in the format of the suffix, complete or not at all."""
    from codec.bitstream import write_codes
    from codec.files import new_file

    if target.suffix == ".codec":
        data = bitstream.to_bytes()
        with new_file(target, overwrite=overwrite) as file:
            file.write(data)
    else:
        write_codes(target, bitstream, overwrite=overwrite)
    return Outcome(describe_file(target, bitstream.header))


def describe_file(target: Path, header: "Header") -> str:
    """Name, duration, levels and bitrate of a file of codes."""
    file_rate = 8 * target.stat().st_size / header.duration_s
    levels = f"{header.num_quantizers} level{'s' if header.num_quantizers > 1 else ''}"
    return f"{target}  {header.duration_s:.2f} s  {levels}, {file_rate / 1000:.2f} kbit/s"
