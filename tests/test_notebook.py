"""docs/tour.ipynb runs from its own folder, shows its pictures, and leaves nothing behind."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="run  pip install nbclient ipykernel")
nbclient = pytest.importorskip("nbclient", reason="run  pip install nbclient ipykernel")

NOTEBOOK = Path(__file__).parent.parent / "docs" / "tour.ipynb"


def test_it_is_kept_without_results() -> None:
    """Pictures and sound would be megabytes that change with every run."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)
    assert NOTEBOOK.stat().st_size < 20_000


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode, decode, cut and train: three sounds, three pictures, and a quantizer above Shannon's bound."""
    for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))  # nothing of the user is read or written
    before = sorted(NOTEBOOK.parent.iterdir())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    assert sorted(NOTEBOOK.parent.iterdir()) == before
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [kind for output in outputs for kind in output.get("data", ())]
    assert shown.count("image/png") == 3 and shown.count("text/html") == 3  # the sounds are players
    text = "".join(output.text for output in outputs if output.get("name") == "stdout")
    distortion, bound = map(float, re.findall(r"distortion ([\d.]+) .*bound ([\d.]+)\)", text)[0])
    assert bound == pytest.approx(2**-6, abs=1e-4)
    assert bound < distortion < 2.5 * bound
