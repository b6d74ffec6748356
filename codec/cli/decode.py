"""codec-decode: files of codes to audio files."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.jobs import Job, Outcome, plan, run_jobs
from codec.cli.loading import load_model
from codec.cli.options import DecodeOptions

if TYPE_CHECKING:
    from codec.model.codec import Codec


def decode(argv: Sequence[str]) -> int:
    """Decode files of codes to audio files."""
    options = parse(DecodeOptions, argv, "codec-decode")
    from codec.audio.file import WRITE_FORMATS
    from codec.bitstream import SUFFIXES

    formats = [f".{options.format}"] if options.format else list(WRITE_FORMATS)
    readable, overwrite = [".codec", *SUFFIXES], options.overwrite
    jobs = plan(options.inputs, options.output, readable, formats, mark=".decoded", overwrite=overwrite)
    codec = load_model(options)
    codec.check_num_quantizers(options.num_quantizers)
    return run_jobs("codec-decode", jobs, lambda job: _decode_file(codec, job, options))


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
