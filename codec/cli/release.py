"""codec-release: a trained model as a folder that ships."""

from collections.abc import Sequence

from codec.cli.command_line import Changes, override, parse_with_recipe
from codec.cli.loading import find_device
from codec.cli.options import ReleaseOptions
from codec.cli.output import Emit, output
from codec.errors import ConfigError
from codec.recipe import Recipe, find_recipe, load_recipe


def release(argv: Sequence[str]) -> int:
    """Make a release of a trained model."""
    options, changes = parse_with_recipe(ReleaseOptions, argv, "codec-release")
    with output(options) as emit:
        _release(options, changes, emit)
    return 0


def _release(options: ReleaseOptions, changes: Changes, emit: Emit) -> None:
    for key in changes:
        if not key.startswith("data."):
            raise ConfigError(f"no option --{key}: of the recipe only --data options can be given")
    recipe = override(_find_training(options), changes)
    about = _read_about(options, recipe)
    from codec.release.release import release_codec

    released = release_codec(
        options.model,
        options.output,
        recipe,
        about=about,
        figures=options.figures,
        device=find_device(options.device),
    )
    print(
        f"{options.output}  {released.num_bytes / 1e6:.1f} MB, identity {released.identity.hex()[:16]}..., rounding "
        f"moved latents and samples by {released.rounding:.1e} at most\n"
        f"next: codec-encode talk.wav --model {options.output}"
    )
    facts = {"output": options.output, "num_bytes": released.num_bytes, "rounding": released.rounding}
    emit({**facts, "model": {"identity": released.identity.hex()}})


def _find_training(options: ReleaseOptions) -> Recipe:
    """The recipe given, else that of the run that the model belongs to."""
    if options.recipe is not None:
        return load_recipe(options.recipe)
    from codec.inference.pretrained import find_model
    from codec.release.card import find_run
    from codec.train.rundir import read_run

    run = find_run(find_model(options.model))
    if run is None:
        raise ConfigError(f"{options.model} is of no run directory: say with --recipe what it was trained by")
    return read_run(run)


def _read_about(options: ReleaseOptions, recipe: Recipe) -> str:
    """Text of the card about data and licences."""
    from codec.release.card import header_comment

    if options.about is not None:
        try:
            return options.about.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"can't read {options.about}: {error}") from error
    try:
        comment = header_comment(find_recipe(options.recipe or recipe.name))
    except ConfigError:  # a user's own recipe: the run has only its values
        comment = ""
    if not comment:
        raise ConfigError("which data was it trained on, under which licences? give a text file with --about")
    return f"From the recipe:\n\n```\n{comment}\n```"
