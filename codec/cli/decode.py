"""codec-decode: files of codes to audio files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.jobs import Job, Outcome, leave_done, plan, run_jobs
from codec.cli.loading import load_model
from codec.cli.options import DecodeOptions
from codec.cli.pipes import piped

if TYPE_CHECKING:
    from codec.model.codec import Codec


def decode(argv: Sequence[str]) -> int:
    """Decode files of codes to audio files."""
    with piped(parse(DecodeOptions, argv, "codec-decode"), "wav") as options:
        return _decode(options)


def _decode(options: DecodeOptions) -> int:
    from codec.audio.file import WRITE_FORMATS
    from codec.bitstream import SUFFIXES

    formats = [f".{options.format}"] if options.format else list(WRITE_FORMATS)
    readable, overwrite, skip = [".codec", *SUFFIXES], options.overwrite, options.skip_existing
    jobs = plan(options.inputs, options.output, readable, formats, mark=".decoded", overwrite=overwrite, skip=skip)
    codec = load_model(options)
    codec.check_num_quantizers(options.num_quantizers)
    if skip:
        jobs = leave_done("codec-decode", jobs, lambda job: _is_done(codec, job))
    return run_jobs("codec-decode", jobs, lambda job: _decode_file(codec, job, options))


def _is_done(codec: "Codec", job: Job) -> bool:
    """Whether the audio file that exists has the rate, channels and length that the codes say."""
    from codec.audio.file import read_info
    from codec.bitstream import SUFFIXES, Header, read_codes
    from codec.inference.compression import describe_codes

    if job.source.suffix in SUFFIXES:
        header = read_codes(job.source, describe_codes(codec, codec.quantizer.num_quantizers)).header
    else:
        with job.source.open("rb") as file:
            header = Header.from_file(file)
    return read_info(job.target) == (header.sample_rate, header.num_channels, header.num_samples)


def _decode_file(codec: "Codec", job: Job, options: DecodeOptions) -> Outcome:
    from codec.bitstream import SUFFIXES, describe_lost, read_codes
    from codec.inference.compression import decompress_codes, decompress_file, describe_codes, read_bitstream

    levels, is_plain = options.num_quantizers, job.source.suffix in SUFFIXES
    if is_plain or levels:
        if is_plain:
            bitstream = read_codes(job.source, describe_codes(codec, codec.quantizer.num_quantizers))
        else:
            bitstream = read_bitstream(job.source, codec, salvage=options.salvage)
        bitstream = bitstream.keep_quantizers(levels) if levels else bitstream
        decompress_codes(codec, bitstream, job.target, overwrite=options.overwrite)
        header, lost = bitstream.header, bitstream.lost
    else:
        reader = decompress_file(codec, job.source, job.target, salvage=options.salvage, overwrite=options.overwrite)
        header, lost = reader.header, reader.lost
    channels = "1 channel" if header.num_channels == 1 else f"{header.num_channels} channels"
    line = f"{job.target}  {header.duration_s:.2f} s  {header.sample_rate} Hz, {channels}"
    return Outcome(line, describe_lost(header, lost) if lost else "")
