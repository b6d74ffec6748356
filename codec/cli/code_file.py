"""Files of codes as the commands write them, and what is printed of one."""

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
    return describe_file(target, bitstream.header)


def describe_file(target: Path, header: "Header") -> Outcome:
    """What is printed of a file of codes: name, duration, levels and bitrate; as JSON also what the codes are of."""
    num_bytes = target.stat().st_size
    file_rate = 8 * num_bytes / header.duration_s
    levels = f"{header.num_quantizers} level{'s' if header.num_quantizers > 1 else ''}"
    line = f"{target}  {header.duration_s:.2f} s  {levels}, {file_rate / 1000:.2f} kbit/s"
    facts = {"output": target, "skipped": False, "num_bytes": num_bytes, "bitrate": file_rate}
    return Outcome(line, objects=[facts | header.to_json()])
