"""README and docs: examples run, commands parse, links and named files are there, and the map is the tree."""

import ast
import re
import shlex
import shutil
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from models import tiny_codec

import codec.bitstream
from codec.cli import options as cli
from codec.cli.command_line import override, parse, parse_with_recipe
from codec.cli.completion import SHELLS
from codec.cli.train import parse_training
from codec.config import leaves
from codec.inference.pretrained import save_codec
from codec.recipe import Recipe, find_recipe, load_recipe

ROOT = Path(__file__).parent.parent
FOLDERS = ("codec", "recipes", "data", "docs", "tests")
PATHS = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(PATHS)}
README, CONTRIBUTING = PAGES["README.md"], PAGES["CONTRIBUTING.md"]
GUIDES = {name: text for name, text in PAGES.items() if name != "CHANGELOG.md"}  # that tells of what is gone, too
OUTPUTS = {"README.md": "", "docs/library.md": "12800 bit/s\n"}  # 800 frames/s x 4 levels x 4 bit
COMMANDS = {
    "codec-encode": cli.EncodeOptions,
    "codec-decode": cli.DecodeOptions,
    "codec-eval": cli.EvalOptions,
    "codec-inspect": cli.InspectOptions,
    "codec-compare": cli.CompareOptions,
    "codec-bench": cli.BenchOptions,
    "codec-export": cli.ExportOptions,
}
LOOP_VARIABLES = {
    "$(basename $recipe)": "gaussian_vq",
    "$recipe": "gaussian_vq",
    "$size": "2",
    "${size}": "2",
    "$update": "ema",
    "${update}": "ema",
}


def blocks(text: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in fenced if name == language]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Command lines of ours in shell blocks and indented blocks, without what describes them."""
    indented = re.findall(r"^    (.*)$", prose(text), re.MULTILINE)
    lines = [*indented, *(line for block in blocks(text, "sh") for line in block.splitlines())]
    for name, value in LOOP_VARIABLES.items():
        lines = [line.replace(name, value) for line in lines]
    found = [
        re.search(r"(?<![\w-])codec-[a-z]+(?: \S+)+", line) for line in lines if not line.strip().startswith("echo")
    ]
    return [re.split(r" (?:&&|\||>)(?: |$)|\)", match[0])[0] for match in found if match]


def slugs(text: str) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the table under a heading of a page."""
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def test_python_examples_are_on_these_pages() -> None:
    assert {name for name, text in PAGES.items() if blocks(text, "python")} == set(OUTPUTS)


@pytest.mark.parametrize("page", OUTPUTS)
def test_python_example_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "data" / "clips", tmp_path / "data" / "clips")
    save_codec(tiny_codec(), tmp_path / "runs" / "quickstart")
    monkeypatch.chdir(tmp_path)
    (example,) = blocks(PAGES[page], "python")
    names: dict[str, object] = {}
    exec(compile(example, page, "exec"), names)
    assert capsys.readouterr().out == OUTPUTS[page]
    assert names["restored"].shape == names["audio"].shape
    written = {path.name for path in Path("runs/quickstart").glob("example.*")}
    assert written == ({"example.codec", "example.wav"} if OUTPUTS[page] else set())


def test_first_two_shell_blocks_are_set_up_and_tests() -> None:
    main_job, tests = blocks(README, "sh")[:2]
    assert README.index(main_job) < README.index(tests)
    assert all(name in main_job for name in ("venv", "install", "codec-train", "codec-encode", "codec-decode"))
    assert tests.rstrip().endswith("pytest")


def test_readme_fits_on_two_screens() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize(
    "line", sorted({line for name, text in GUIDES.items() if "weights" not in name for line in commands(text)})
)
def test_command_parses(line: str) -> None:
    name, *argv = (word for word in shlex.split(line) if word != "--help")
    if argv[0] == "--completion":  # answered before the options are parsed
        assert argv[1:] and argv[1] in SHELLS
    elif name == "codec-train":
        options, changes = parse_training(argv)
        override(load_recipe(options.recipe), changes)
    elif name == "codec-release":
        parse_with_recipe(cli.ReleaseOptions, argv, name)
    else:
        parse(COMMANDS[name], argv, name)


def test_every_command_is_described() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    shown = {line.split()[0] for line in commands(PAGES["docs/commands.md"])}
    assert shown == set(scripts) == {*COMMANDS, "codec-train", "codec-release"}


@pytest.mark.parametrize("page", GUIDES)
def test_options_in_the_text_exist(page: str) -> None:
    known = {
        field.name for each in (*COMMANDS.values(), cli.TrainOptions, cli.ReleaseOptions) for field in fields(each)
    }
    spans = [span for span in re.findall(r"`([^`\n]+)`", prose(GUIDES[page])) if span.startswith(("--", "codec-"))]
    for option in (option for span in spans for option in re.findall(r"(?:^| )--([\w.-]+)", span)):
        key = option.replace("-", "_")
        assert key in known | {dotted for dotted, _ in leaves(Recipe)} | {"help", "version"}, f"{page}: --{option}"


@pytest.mark.parametrize("page", GUIDES)
def test_recipes_in_the_text_exist(page: str) -> None:
    named = re.findall(r"(?:bottlenecks|ablations)/\w+\b(?!\$)|\b(?:speech_16khz|gaussian_vq)\w*", GUIDES[page])
    for name in set(named):
        find_recipe(name)


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_and_images_resolve(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[page])):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert path.exists(), f"{page}: {target}"
        assert not anchor or anchor in slugs(path.read_text(encoding="utf-8")), f"{page}: {target}"


def test_every_page_of_docs_is_linked() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)", README + CONTRIBUTING))
    assert linked == {name for name in PAGES if name.startswith("docs/")}


def test_the_map_is_the_tree() -> None:
    (block,) = (block for block in blocks(CONTRIBUTING, "") if block.startswith("codec/"))
    parents: list[str] = []
    listed = []
    for indent, name in re.findall(r"^( *)(\w+)/ +\S", block, re.MULTILINE):
        parents[len(indent) // 2 :] = [name]
        listed.append("/".join(parents))
    assert len(listed) == len(block.splitlines())
    tree = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "codec").rglob("*.py")}
    assert sorted(listed) == sorted({*tree, "codec/weights", "web", *FOLDERS})


def test_contributing_names_what_is_there() -> None:
    for question, link, names in rows(CONTRIBUTING, "Where to find it"):
        path = ROOT / re.findall(r"\]\(([^)#]+)", link)[0]
        text = path.read_text(encoding="utf-8")
        defined = set()
        if path.suffix == ".py":
            nodes = list(ast.walk(ast.parse(text)))
            defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        for name in re.findall(r"`([^`]+)`", names):
            assert name in defined or ("/" in name and (ROOT / name).exists() and Path(name).name in text), question


def test_contributing_has_the_limits_that_tests_check() -> None:
    for what, limit, link in rows(CONTRIBUTING, "Limits"):
        test = (ROOT / re.findall(r"\]\(([^)#]+)", link)[0]).read_text(encoding="utf-8")
        number = re.findall(r"\d+", limit.replace(",", ""))[0]
        assert re.search(rf"(?:=|==) {number}\b", test.replace("_", "")), f"{what}: {number}"


def test_the_layout_of_the_format_is_that_of_the_code() -> None:
    layout = re.findall(r"^    .*$", codec.bitstream.__doc__ or "", re.MULTILINE)
    assert "\n".join(layout) in PAGES["docs/format.md"]
