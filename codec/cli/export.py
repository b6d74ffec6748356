"""codec-export: a model as ONNX files, or as a page for the browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.loading import find_shipped, load_ours
from codec.cli.options import ExportOptions
from codec.cli.output import Emit, output
from codec.errors import ConfigError

if TYPE_CHECKING:
    from codec.model.codec import Codec


def export(argv: Sequence[str]) -> int:
    """Write a model as ONNX files, or as a page."""
    options = parse(ExportOptions, argv, "codec-export")
    with output(options) as emit:
        _export(options, emit)
    return 0


def _export(options: ExportOptions, emit: Emit) -> None:
    from codec.model.digest import model_identity

    if options.web is not None and options.output is None:
        if options.beam > 1:
            raise ConfigError("the search in a page keeps one path: leave --beam out")
        codec, facts = _export_page(options, options.web)
    elif options.output is not None and options.web is None:
        codec, facts = _export_files(options, options.output)
    else:
        raise ConfigError("where to? give either --output DIR, for ONNX files, or --web DIR, for a page")
    emit({**facts, "model": {"identity": model_identity(codec).hex()}})


def _export_files(options: ExportOptions, folder: Path) -> tuple["Codec", dict[str, object]]:
    from codec.onnx.export import check_folder, export_codec

    check_folder(folder, overwrite=options.overwrite)
    codec = load_ours(options.model)
    written = export_codec(codec, folder, beam=options.beam, overwrite=options.overwrite)
    print(
        f"{folder}  encoder.onnx {written.encoder_bytes / 1e6:.1f} MB, decoder.onnx "
        f"{written.decoder_bytes / 1e6:.1f} MB  like PyTorch: same codes, audio within {written.deviation:.1e}"
    )
    return codec, {"output": folder, **written._asdict(), "beam": options.beam}


def _export_page(options: ExportOptions, folder: Path) -> tuple["Codec", dict[str, object]]:
    from codec.web.page import check_page_folder, write_page

    check_page_folder(folder, overwrite=options.overwrite)
    codec = load_ours(options.model)
    name = Path(options.model or find_shipped()[0]).resolve().name
    written = write_page(codec, folder, name=name, runtime=options.onnxruntime_web, overwrite=options.overwrite)
    rates = " / ".join(f"{rate.bitrate / 1000:g}" for rate in written.rates)
    print(
        f"{folder}  {written.num_bytes / 1e6:.1f} MB, {rates} kbit/s  like PyTorch: same codes, audio within "
        f"{written.deviation:.1e}  open {folder / 'index.html'}"
    )
    return codec, {"output": folder, **written._asdict(), "rates": [rate._asdict() for rate in written.rates]}
