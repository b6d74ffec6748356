"""codec-export: a model as ONNX files, or as a page for the browser."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codec.cli.command_line import parse
from codec.cli.loading import find_shipped, load_model
from codec.cli.options import ExportOptions, ModelOptions
from codec.errors import ConfigError

if TYPE_CHECKING:
    from codec.model.codec import Codec


def export(argv: Sequence[str]) -> int:
    """Write a model as ONNX files, or as a page."""
    options = parse(ExportOptions, argv, "codec-export")
    if (options.output is None) == (options.web is None):
        raise ConfigError("where to? give either --output DIR, for ONNX files, or --web DIR, for a page")
    if options.web is not None and options.beam > 1:
        raise ConfigError("the search in a page keeps one path: leave --beam out")
    if options.output is not None:
        return _export_files(options, options.output)
    assert options.web is not None
    return _export_page(options, options.web)


def _load(options: ExportOptions) -> "Codec":
    return load_model(ModelOptions(model=options.model, device="cpu"))


def _export_files(options: ExportOptions, folder: Path) -> int:
    from codec.onnx.export import check_folder, export_codec

    check_folder(folder, overwrite=options.overwrite)
    written = export_codec(_load(options), folder, beam=options.beam, overwrite=options.overwrite)
    print(
        f"{folder}  encoder.onnx {written.encoder_bytes / 1e6:.1f} MB, decoder.onnx "
        f"{written.decoder_bytes / 1e6:.1f} MB  like PyTorch: same codes, audio within {written.deviation:.1e}"
    )
    return 0


def _export_page(options: ExportOptions, folder: Path) -> int:
    from codec.web.page import check_page_folder, write_page

    check_page_folder(folder, overwrite=options.overwrite)
    codec = _load(options)
    name = Path(options.model or find_shipped()[0]).resolve().name
    written = write_page(codec, folder, name=name, runtime=options.onnxruntime_web, overwrite=options.overwrite)
    rates = " / ".join(f"{rate.bitrate / 1000:g}" for rate in written.rates)
    print(
        f"{folder}  {written.num_bytes / 1e6:.1f} MB, {rates} kbit/s  like PyTorch: same codes, audio within "
        f"{written.deviation:.1e}  open {folder / 'index.html'}"
    )
    return 0
