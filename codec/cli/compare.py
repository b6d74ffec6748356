"""codec-compare: Gaussian runs beside each other, Shannon's bound, k-means and Lloyd-Max."""

from collections.abc import Sequence

from codec.cli.command_line import parse
from codec.cli.jobs import check_inputs, check_outputs
from codec.cli.options import CompareOptions
from codec.cli.output import Emit, output
from codec.errors import ConfigError


def compare(argv: Sequence[str]) -> int:
    """Print the table of some runs, and draw the figure where an output is given."""
    options = parse(CompareOptions, argv, "codec-compare")
    with output(options) as emit:
        _compare(options, emit)
    return 0


def _compare(options: CompareOptions, emit: Emit) -> None:
    check_inputs(options.inputs)
    if options.output is not None:
        if options.output.suffix != ".png":
            raise ConfigError(f"the figure is a .png file, not {options.output}")
        check_outputs([options.output], options.overwrite)
    from codec.eval.plotting import write_figure
    from codec.study.comparison import compare_runs, format_rows
    from codec.study.figures import comparison_figure

    rows = compare_runs(options.inputs)
    print(format_rows(rows))
    if options.output is not None:
        figure = comparison_figure([row.measured for row in rows])
        write_figure(figure, options.output, overwrite=options.overwrite)
    emit({"rows": rows, "output": options.output})
