"""codec-release: a trained model as a folder that ships, and on the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path

from codec.cli.command_line import Changes, override, parse_with_recipe
from codec.cli.loading import find_device
from codec.cli.options import ReleaseOptions
from codec.cli.output import Emit, output
from codec.errors import ConfigError
from codec.recipe import Recipe, find_recipe, load_recipe


def release(argv: Sequence[str]) -> int:
    """Make a release of a trained model, push one to the hub, or both."""
    options, changes = parse_with_recipe(ReleaseOptions, argv, "codec-release")
    _check(options, changes)
    with output(options) as emit:
        folder = options.model
        if options.output is not None:
            _make(options, options.output, changes, emit)
            folder = str(options.output)
        if options.push is not None:
            _push(options, options.push, folder, emit)
    return 0


def _check(options: ReleaseOptions, changes: Changes) -> None:
    """Check all that can be checked before the work.

    Raises:
        ConfigError: Options do not go together, or nothing can be pushed there.
    """
    for key in changes:
        if not key.startswith("data."):
            raise ConfigError(f"no option --{key}: of the recipe only --data options can be given")
    if options.output is None and (
        options.push is None or changes or options.recipe or options.about or options.figures
    ):
        raise ConfigError("where is the new release to be? give -o DIR; one that is there is pushed with --push alone")
    if options.push is None:
        if options.private or options.message:
            raise ConfigError("--private and --message are for the hub: say where to with --push")
        return
    from codec.release.publish import check_target

    check_target(options.push)


def _make(options: ReleaseOptions, folder: Path, changes: Changes, emit: Emit) -> None:
    recipe = override(_find_training(options), changes)
    about = _read_about(options, recipe)
    from codec.release.release import release_codec

    device = find_device(options.device)
    released = release_codec(options.model, folder, recipe, about=about, figures=options.figures, device=device)
    print(
        f"{folder}  {released.num_bytes / 1e6:.1f} MB, identity {released.identity.hex()[:16]}..., rounding "
        f"moved latents and samples by {released.rounding:.1e} at most\n"
        f"next: codec-encode talk.wav --model {folder}"
    )
    facts = {"output": folder, "num_bytes": released.num_bytes, "rounding": released.rounding}
    emit({**facts, "model": {"identity": released.identity.hex()}})


def _push(options: ReleaseOptions, name: str, folder: str, emit: Emit) -> None:
    from codec.release.publish import push_to_hub

    pushed = push_to_hub(folder, name, private=options.private, message=options.message)
    print(f"{pushed.url}\nnext: codec-encode talk.wav --model {pushed.name}")
    emit({"output": pushed.name, "url": pushed.url})


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
