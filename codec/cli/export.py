"""codec-export: a model as ONNX files."""

from collections.abc import Sequence

from codec.cli.command_line import parse
from codec.cli.loading import load_ours
from codec.cli.options import ExportOptions
from codec.cli.output import Emit, output


def export(argv: Sequence[str]) -> int:
    """Write a model as ONNX files."""
    options = parse(ExportOptions, argv, "codec-export")
    with output(options) as emit:
        _export(options, emit)
    return 0


def _export(options: ExportOptions, emit: Emit) -> None:
    from codec.model.digest import model_identity
    from codec.onnx.export import check_folder, export_codec

    check_folder(options.output, overwrite=options.overwrite)
    codec = load_ours(options.model)
    written = export_codec(codec, options.output, beam=options.beam, overwrite=options.overwrite)
    print(
        f"{options.output}  encoder.onnx {written.encoder_bytes / 1e6:.1f} MB, decoder.onnx "
        f"{written.decoder_bytes / 1e6:.1f} MB  like PyTorch: same codes, audio within {written.deviation:.1e}"
    )
    facts = {"output": options.output, **written._asdict(), "beam": options.beam}
    emit({**facts, "model": {"identity": model_identity(codec).hex()}})
