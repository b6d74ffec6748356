"""Files and folders appear complete or not at all."""

import pytest

from codec.files import new_file


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.codec"
    with pytest.raises(KeyboardInterrupt), new_file(path, overwrite=False) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert files_in(path.parent) == []
    with new_file(path, overwrite=False) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert files_in(path.parent) == ["a.codec"]


def test_a_new_file_replaces_the_old_one_at_once(tmp_path):
    """Who has the old file open goes on reading it."""
    path = tmp_path / "a.codec"
    path.write_bytes(b"old")
    with path.open("rb") as old:
        with new_file(path, overwrite=True) as file:
            file.write(b"new")
        assert old.read() == b"old"
    assert path.read_bytes() == b"new"
