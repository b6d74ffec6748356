"""codec-inspect: what is in a `.codec` file, what a model is, and how it uses its codebooks on audio."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codec.cli.command_line import parse
from codec.cli.jobs import attempt, check_inputs, check_outputs, visible_files
from codec.cli.loading import find_shipped, read_model
from codec.cli.messages import message
from codec.cli.options import InspectOptions
from codec.cli.output import Emit, FileError, output
from codec.errors import BitstreamError, CodecError, ConfigError

if TYPE_CHECKING:
    from codec.bitstream import Header
    from codec.eval.inspection.codebooks import CodebookUse
    from codec.model.audio_codec import AudioCodec
    from codec.model.codec import Codec


class Shown(NamedTuple):
    """What is shown of an input."""

    text: str
    values: dict[str, Any]
    """The same for --json."""
    is_whole: bool = True
    """Whether nothing of it is damaged, and nothing was left out."""


class Maker(NamedTuple):
    """A model that made files."""

    name: str
    codec: "AudioCodec"


def inspect(argv: Sequence[str]) -> int:
    """Show what is in files of codes, and what models are."""
    options = parse(InspectOptions, argv, "codec-inspect")
    with output(options) as emit:
        return _inspect(options, emit)


def _inspect(options: InspectOptions, emit: Emit) -> int:
    _check(options)
    subjects = [subject for path in options.inputs for subject in _subjects(path)]
    makers: dict[bytes, Maker] = {}
    num_bad = 0
    for number, subject in enumerate(subjects):
        shown = attempt(_show, subject, options, makers)
        if isinstance(shown, CodecError):
            if len(subjects) == 1:
                raise FileError(subject, message(shown)) from shown
            print(f"codec-inspect: {message(shown)}", file=sys.stderr)
            shown = Shown("", {"error": message(shown)}, is_whole=False)
        num_bad += not shown.is_whole
        if shown.text:
            print("\n" * (number > 0) + shown.text)
        emit({"path": subject, **shown.values})
    if num_bad and len(subjects) > 1:
        print(f"codec-inspect: {num_bad} of {len(subjects)} failed or are damaged", file=sys.stderr)
    return 1 if num_bad else 0


def _check(options: InspectOptions) -> None:
    """Check the options before torch is loaded.

    Raises:
        ConfigError: There is no input, or audio and pictures are not for one model.
    """
    if not options.inputs:
        raise ConfigError("nothing to inspect: give .codec files, folders of them, or a model, or --help")
    if options.output is not None and not options.audio:
        raise ConfigError("the pictures show the use of codebooks on audio: say on which with --audio")
    if options.audio and (len(options.inputs) > 1 or options.inputs[0].is_file()):
        raise ConfigError("--audio is for one model: give its name, run directory or folder, and nothing else")
    check_inputs(options.audio or (Path(),))


def _subjects(path: Path) -> Iterator[Path]:
    """A file or a model by itself; of a folder that is no model its .codec files.

    Raises:
        ConfigError: There is no such file, or the folder holds none.
    """
    from codec.inference.pretrained import INDEX_FILE, WEIGHTS_FILE

    is_model = any((path / name).is_file() for name in (WEIGHTS_FILE, INDEX_FILE))
    if not path.is_dir() or is_model:
        if path.suffix == ".codec" and not path.exists():
            raise ConfigError(f"no file or folder {path}")
        yield path
        return
    found = [path / file for file in visible_files(path) if file.suffix.lower() == ".codec"]
    if not found:
        raise ConfigError(f"nothing to inspect in {path}: it holds no .codec files, and no {WEIGHTS_FILE}")
    yield from found


def _show(subject: Path, options: InspectOptions, makers: dict[bytes, Maker]) -> Shown:
    return _show_file(subject, options.model, makers) if subject.is_file() else _show_model(str(subject), options)


def _show_file(path: Path, model: str | None, makers: dict[bytes, Maker]) -> Shown:
    from codec.bitstream import ENTROPY_CODED, Header
    from codec.eval.inspection.code_file import file_to_json, inspect_file
    from codec.eval.inspection.text import format_file
    from codec.inference.compression import entropy_coder

    try:
        with path.open("rb") as file:
            header = Header.from_file(file)
        maker = _find_maker(header, model, makers)
        facts = inspect_file(path, None if maker is None else entropy_coder(maker.codec))
    except OSError as error:
        raise BitstreamError(f"can't read {path}: {error.strerror or error}") from error
    except BitstreamError as error:
        raise BitstreamError(f"{path}: {message(error)}") from error
    about = "not one that ships" if maker is None else maker.name if model else f"{maker.name}, which ships"
    if maker is None and header.payload_kind == ENTROPY_CODED:
        about += "; the use of its codes needs its tables: give it with --model"
    values = file_to_json(facts, None if maker is None else maker.name)
    return Shown(format_file(facts, about), values | {"error": facts.damage or None}, not facts.damage)


def _find_maker(header: "Header", model: str | None, makers: dict[bytes, Maker]) -> Maker | None:
    """The model that made a file: the one asked for, or one of those that ship; None if none of these did.

    Args:
        header: Of the file.
        model: The model asked for.
        makers: Models that are loaded, by their identity; filled by the first call.

    Raises:
        BitstreamError: Another model than the one asked for made the file.
        ModelError: The model asked for can't be loaded.
    """
    from codec.model.digest import model_identity

    if not makers:
        for candidate in [model] if model else find_shipped():
            codec = read_model(candidate)
            makers[model_identity(codec)] = Maker(model or Path(candidate).name, codec)
    if model and header.model_id not in makers:
        raise BitstreamError(f"the codes are of model {header.model_id.hex()[:12]}, not of {model}", codec=...)
    return makers.get(header.model_id)


def _show_model(name: str, options: InspectOptions) -> Shown:
    from codec.eval.inspection.model import inspect_model, model_to_json
    from codec.eval.inspection.text import format_model, format_use
    from codec.inference.pretrained import find_model, load_codec

    codec = load_codec(name)
    facts = inspect_model(codec, name, find_model(name))
    if not options.audio:
        return Shown(format_model(facts), model_to_json(facts))
    use = _measure_use(codec, options)
    error = f"{len(use.unread)} audio files can't be read" if use.unread else None
    values = model_to_json(facts) | {"use": _use_to_json(use), "error": error}
    return Shown(f"{format_model(facts)}\n\n{format_use(use, facts)}", values, not use.unread)


def _measure_use(codec: "Codec", options: InspectOptions) -> "CodebookUse":
    """Use of the codebooks on the audio asked for; draws the pictures if a folder for them is given."""
    from codec.audio.manifest import list_paths
    from codec.eval.inspection.codebooks import measure_codebook_use

    paths = list_paths(options.audio, split=options.split, kinds=options.kinds)
    levels = range(1, codec.quantizer.num_quantizers + 1)
    pictures = [f"level_{level:02}.png" for level in levels] + ["codebooks.png"]
    targets = [] if options.output is None else [options.output / name for name in pictures]
    check_outputs(targets, options.overwrite)
    use = measure_codebook_use(codec, paths)
    for error in use.unread.values():
        print(f"codec-inspect: {message(error)}", file=sys.stderr)
    if targets:
        _draw(use, targets, options.overwrite)
    return use


def _draw(use: "CodebookUse", targets: Sequence[Path], overwrite: bool) -> None:
    """Draw the codebook of each level, and all of them side by side into the last target."""
    from codec.eval.codebook_figures import codebook_figure, codebooks_figure
    from codec.eval.plotting import write_figure

    counts = use.counts.numpy()
    for level, target in enumerate(targets):
        if level < len(counts):
            figure = codebook_figure(use.codewords[level], use.vectors[level], counts[level])
            figure.axes[0].set_title(f"level {level + 1}: {figure.axes[0].get_title()}")
        else:
            figure = codebooks_figure(use.codewords, use.vectors, counts)
        write_figure(figure, target, overwrite=overwrite)
    print(f"{targets[-1].parent}: {len(targets)} pictures", file=sys.stderr)


def _use_to_json(use: "CodebookUse") -> dict[str, Any]:
    return {
        "num_files": use.num_files,
        "seconds": use.seconds,
        "unread": {str(path): str(error) for path, error in use.unread.items()},
        "num_frames": int(use.counts[0].sum()),
        "never_used": (use.counts == 0).sum(dim=1).tolist(),
        "levels": {name: values.tolist() for name, values in use.health._asdict().items()},
    }
