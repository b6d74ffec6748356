"""codec-encode: audio files to codes, or .codec files cut to fewer levels."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.loading import load_model, read_bitstream
from codec.errors import ConfigError
from codec.jobs import Job, Outcome, plan, run_jobs
from codec.options import EncodeOptions, parse, parse_bitrate

if TYPE_CHECKING:
    from codec.bitstream import Bitstream, Header
    from codec.model.codec import Codec


def encode(argv: Sequence[str]) -> int:
    """Encode audio files, or cut .codec files."""
    options: EncodeOptions = parse(EncodeOptions, argv, "codec-encode")
    if any(path.suffix == ".codec" for path in options.inputs):
        return _cut(options)
    if options.num_quantizers is not None and options.bitrate is not None:
        raise ConfigError("--num-quantizers and --bitrate say the same: give one of them")
    bitrate = None if options.bitrate is None else parse_bitrate(options.bitrate)
    from codec.audio import READ_SUFFIXES
    from codec.bitstream import SUFFIXES

    formats = [f".{options.format}"] if options.format else [".codec", *SUFFIXES]
    jobs = plan(options.inputs, options.output, READ_SUFFIXES, formats, overwrite=options.overwrite)
    codec = load_model(options)
    levels = options.num_quantizers if bitrate is None else codec.config.num_quantizers_for(bitrate)
    codec.check_num_quantizers(levels)
    return run_jobs("codec-encode", jobs, lambda job: _encode_file(codec, job, levels, options.overwrite))


def _encode_file(codec: "Codec", job: Job, levels: int | None, overwrite: bool) -> Outcome:
    from codec.bitstream import Bitstream
    from codec.compression import compress_file

    if job.target.suffix == ".codec":
        header = compress_file(codec, job.source, job.target, num_quantizers=levels, overwrite=overwrite)
        return Outcome(_describe_codes(job.target, header))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, "whole.codec")
        header = compress_file(codec, job.source, scratch, num_quantizers=levels)
        _write_plain(job.target, Bitstream.from_bytes(scratch.read_bytes()), overwrite)
    return Outcome(_describe_codes(job.target, header))


def _write_plain(target: Path, bitstream: "Bitstream", overwrite: bool) -> None:
    """Write .npy, .npz or .jsonl complete or not at all."""
    from codec.bitstream import write_codes
    from codec.compression import new_file

    with tempfile.TemporaryDirectory() as folder, new_file(target, overwrite=overwrite) as file:
        scratch = Path(folder, f"codes{target.suffix}")
        write_codes(scratch, bitstream)
        file.write(scratch.read_bytes())


def _cut(options: EncodeOptions) -> int:
    """Keep the first levels of .codec files; needs no model."""
    levels = options.num_quantizers
    if levels is None or options.format not in (None, "codec"):
        raise ConfigError(
            "a .codec file can only be cut to fewer levels: give --num-quantizers N and no other --format"
        )
    if any(path.suffix != ".codec" for path in options.inputs):
        raise ConfigError("give audio files or .codec files, not both at once")
    mark, overwrite = f".{levels}", options.overwrite
    jobs = plan(options.inputs, options.output, [".codec"], [".codec"], mark=mark, overwrite=overwrite)

    def work(job: Job) -> Outcome:
        from codec.compression import new_file

        bitstream = read_bitstream(job.source).keep_quantizers(levels)
        with new_file(job.target, overwrite=overwrite) as file:
            file.write(bitstream.to_bytes())
        return Outcome(_describe_codes(job.target, bitstream.header))

    return run_jobs("codec-encode", jobs, work)


def _describe_codes(target: Path, header: "Header") -> str:
    file_rate = 8 * target.stat().st_size / header.duration_s
    rates = f"{header.bitrate / 1000:.2f} kbit/s codes, {file_rate / 1000:.2f} kbit/s file"
    return f"{target}  {header.duration_s:.2f} s  {rates}"
