"""codec-encode on .codec files: they are cut to fewer levels or to a part, or joined.

No network runs. Packed codes need no model, entropy-coded ones the tables of theirs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.code_file import write_file
from codec.cli.jobs import Job, Outcome, check_inputs, check_outputs, leave_done, plan, run_jobs
from codec.cli.loading import load_maker
from codec.cli.options import EncodeOptions
from codec.cli.output import Emit
from codec.errors import BitstreamError, ConfigError

if TYPE_CHECKING:
    from codec.bitstream import Bitstream, Header
    from codec.model.audio_codec import AudioCodec

SUFFIX = ".codec"


def is_edit(options: EncodeOptions) -> bool:
    """Whether an option is given that only .codec files have."""
    return _takes_part(options) or options.join


def _takes_part(options: EncodeOptions) -> bool:
    return options.start > 0 or options.duration is not None


def edit(options: EncodeOptions, inputs: Sequence[Path], emit: Emit) -> int:
    """Cut or join .codec files.

    Raises:
        ConfigError: Other inputs or formats, or nothing to do to them.
    """
    if options.format not in (None, "codec") or not (options.num_quantizers is not None or is_edit(options)):
        raise ConfigError(
            "a .codec file can be cut to fewer levels or to a part, or joined with others: "
            "give --num-quantizers N, --start, --duration or --join, and no other --format"
        )
    others = [path for path in inputs if path.suffix != SUFFIX and not path.is_dir()]
    if others and is_edit(options):
        raise ConfigError(f"--start, --duration and --join are for .codec files, but {others[0]} is none")
    if others:
        raise ConfigError("give audio files or .codec files, not both at once")
    return _join(options, inputs, emit) if options.join else _cut(options, inputs, emit)


def _cut(options: EncodeOptions, inputs: Sequence[Path], emit: Emit) -> int:
    levels, overwrite, skip = options.num_quantizers, options.overwrite, options.skip_existing
    mark = (".cut" if _takes_part(options) else "") + (f".{levels}" if levels else "")
    jobs = plan(inputs, options.output, [SUFFIX], [SUFFIX], mark=mark, overwrite=overwrite, skip=skip)
    if skip:
        jobs = leave_done("codec-encode", jobs, lambda job: _is_done(job, options), emit)
    makers: dict[bytes, AudioCodec] = {}

    def work(job: Job) -> Outcome:
        return write_file(job.target, _read(job.source, options, makers), overwrite)

    return run_jobs("codec-encode", jobs, work, emit)


def _is_done(job: Job, options: EncodeOptions) -> bool:
    """Whether a cut is complete, and of the part and levels asked for."""
    from codec.bitstream import read_complete_header
    from codec.bitstream.interval import cut_header

    header = _header(job.source, options.num_quantizers)
    with job.target.open("rb") as file:
        return read_complete_header(file) == cut_header(header, options.start, options.duration)[0]


def _join(options: EncodeOptions, inputs: Sequence[Path], emit: Emit) -> int:
    from codec.bitstream import Bitstream

    if _takes_part(options) or options.skip_existing:
        raise ConfigError("--join does not go with --start, --duration or --skip-existing: cut the files before")
    if options.output is None or Path(options.output).suffix != SUFFIX:
        raise ConfigError("--join makes one file: name it with -o, as in -o joined.codec")
    check_inputs(inputs)
    if folder := next((path for path in inputs if path.is_dir()), None):
        raise ConfigError(f"--join takes files in their order, and {folder} is a folder")
    target = Path(options.output)
    check_outputs([target], options.overwrite)
    if target.resolve() in {path.resolve() for path in inputs}:
        raise ConfigError(f"{target} would be overwritten by its own run: give another name with -o")
    makers: dict[bytes, AudioCodec] = {}

    def work(job: Job) -> Outcome:
        _check_fit(inputs, options.num_quantizers)
        joined = Bitstream.join([_read(path, options, makers) for path in inputs])
        return write_file(job.target, joined, options.overwrite)

    return run_jobs("codec-encode", [Job(inputs[0], target)], work, emit)


def _check_fit(inputs: Sequence[Path], num_quantizers: int | None) -> None:
    """Raise BitstreamError unless all files can be joined to the first; it names the one that can't."""
    first = _header(inputs[0], num_quantizers)
    for path in inputs[1:]:
        header = _header(path, num_quantizers)
        if difference := first.difference(header):
            levels = min(first.num_quantizers, header.num_quantizers)
            remedy = {"num_quantizers": levels} if levels < max(first.num_quantizers, header.num_quantizers) else {}
            raise BitstreamError(f"{path} can't follow {inputs[0]}: {difference}", **remedy)


def _header(source: Path, num_quantizers: int | None) -> "Header":
    """Header of a file when it is cut to some levels."""
    from codec.bitstream import Header

    try:
        with source.open("rb") as file:
            header = Header.from_file(file)
    except OSError as error:
        raise BitstreamError(f"can't read {source}: {error.strerror}") from error
    return header if num_quantizers is None else header.keep_quantizers(num_quantizers)


def _read(source: Path, options: EncodeOptions, makers: dict[bytes, "AudioCodec"]) -> "Bitstream":
    """Read the part and levels asked for; entropy-coded ones with the tables of their model, kept in `makers`."""
    from codec.bitstream import PACKED
    from codec.inference.compression import read_bitstream

    header = _header(source, options.num_quantizers)
    if header.payload_kind != PACKED and header.model_id not in makers:
        makers[header.model_id] = load_maker(header, options.model)
    maker = makers.get(header.model_id)
    bitstream = read_bitstream(source, maker, start=options.start, duration=options.duration)
    return bitstream if options.num_quantizers is None else bitstream.keep_quantizers(options.num_quantizers)
