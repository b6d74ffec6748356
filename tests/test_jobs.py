import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from messages import one_line

from codec.cli.jobs import Job, Outcome, attempt, check_outputs, leave_done, plan, report, run_jobs
from codec.errors import AudioError, CodecError, ConfigError, DiskFullError

AUDIO = (".wav", ".flac")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """in/a.wav, in/deep/b.FLAC, in/.hidden/c.wav, in/note.txt and single.wav, as relative names."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.wav", "in/deep/b.FLAC", "in/.hidden/c.wav", "in/note.txt", "single.wav"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")
    return tmp_path


def pairs(inputs: list[str], output: str | None, **how: object) -> list[tuple[str, str]]:
    jobs = plan([Path(name) for name in inputs], output, AUDIO, [".codec", ".npy"], **how)  # type: ignore[arg-type]
    return [(source.as_posix(), target.as_posix()) for source, target in jobs]


@pytest.mark.usefixtures("tree")
class TestNames:
    def test_beside_the_input(self) -> None:
        assert pairs(["single.wav"], None) == [("single.wav", "single.codec")]
        assert pairs(["single.wav"], None, mark=".decoded") == [("single.wav", "single.decoded.codec")]
        assert pairs(["in"], None) == [("in/a.wav", "in/a.codec"), ("in/deep/b.FLAC", "in/deep/b.codec")]

    def test_a_name_with_dots_keeps_them(self) -> None:
        Path("v1.2.wav").touch()
        assert pairs(["v1.2.wav"], None) == [("v1.2.wav", "v1.2.codec")]

    def test_the_tree_is_kept_and_hidden_files_are_skipped(self) -> None:
        assert pairs(["in"], "out") == [("in/a.wav", "out/a.codec"), ("in/deep/b.FLAC", "out/deep/b.codec")]

    @pytest.mark.parametrize("output", ["new/", "existing"])
    def test_folder_for_one_file(self, output: str) -> None:
        Path("existing").mkdir()
        assert pairs(["single.wav"], output) == [("single.wav", f"{output.rstrip('/')}/single.codec")]

    def test_several_inputs_make_the_output_a_folder(self) -> None:
        assert [target for _, target in pairs(["single.wav", "in/a.wav"], "o")] == ["o/single.codec", "o/a.codec"]

    def test_sources_of_one_name_keep_their_suffixes(self) -> None:
        Path("in/a.flac").touch()
        found = [target for _, target in pairs(["in"], "out", mark=".decoded")]
        assert found == ["out/a.flac.decoded.codec", "out/a.wav.decoded.codec", "out/deep/b.decoded.codec"]
        Path("a.flac").touch()
        assert pairs(["a.flac", "in/a.wav"], "o/") == [("a.flac", "o/a.flac.codec"), ("in/a.wav", "o/a.wav.codec")]

    def test_files_of_other_types_are_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "codec")
        for name in ("a.m4a", "deep/b.m4a", "README", "a.codec", ".hidden.mp4"):
            Path("in", name).touch()
        Path("in/folder.m4a").mkdir()
        pairs(["in"], "out")
        assert caplog.messages == ["4 files of other types left out: .m4a .txt no suffix"]
        pairs(["in/a.m4a"], "out/")
        assert len(caplog.messages) == 1

    def test_name_of_one_file(self) -> None:
        assert pairs(["single.wav"], "x/y.npy") == [("single.wav", "x/y.npy")]
        assert pairs(["in/note.txt"], "y.codec") == [("in/note.txt", "y.codec")], "a named file is taken as it is"

    def test_name_of_another_format(self) -> None:
        with pytest.raises(ConfigError, match=one_line("y.mp3", ".codec", ".npy", "/")):
            pairs(["single.wav"], "y.mp3")


@pytest.mark.usefixtures("tree")
class TestRefusals:
    def test_missing_input(self) -> None:
        with pytest.raises(ConfigError, match=one_line("gone.wav")):
            pairs(["single.wav", "gone.wav"], None)

    def test_no_input(self) -> None:
        with pytest.raises(ConfigError, match=one_line("nothing to do")):
            pairs([], None)

    def test_folder_without_audio(self) -> None:
        Path("empty").mkdir()
        with pytest.raises(ConfigError, match=one_line("empty", ".wav .flac")):
            pairs(["empty"], None)

    def test_two_sources_of_one_name_by_another_spelling(self) -> None:
        Path("in/single.wav").touch()
        with pytest.raises(ConfigError, match=one_line("single.wav", "in/single.wav", "out/single.wav.codec")):
            pairs(["single.wav", "in/../in/single.wav"], "out")

    def test_a_source_is_never_a_target(self) -> None:
        Path("t.codec").touch()
        with pytest.raises(ConfigError, match=one_line("t.codec", "overwritten")):
            pairs(["t.codec"], "./t.codec", overwrite=True)

    def test_existing_outputs(self) -> None:
        Path("in/a.codec").touch()
        with pytest.raises(ConfigError, match=one_line("in/a.codec", "already there", "1 of 2 files", "overwrite")):
            pairs(["in"], None)
        assert len(pairs(["in"], None, overwrite=True)) == 2

    @pytest.mark.parametrize("behind", ["gone", "in/note.txt"])
    def test_a_symbolic_link_in_the_way(self, behind: str) -> None:
        """It is replaced only where it is named."""
        Path("single.codec").symlink_to(behind)
        for output in (None, "single.codec"):
            with pytest.raises(ConfigError, match=one_line("single.codec", "already there")):
                pairs(["in/a.wav" if output else "single.wav"], output)
        with pytest.raises(ConfigError, match=one_line("single.codec", "symbolic link", "-o")):
            pairs(["single.wav"], None, overwrite=True)
        assert pairs(["single.wav"], "single.codec", overwrite=True) == [("single.wav", "single.codec")]

    def test_folder_in_the_way(self) -> None:
        Path("single.codec").mkdir()
        with pytest.raises(ConfigError, match=one_line("single.codec", "folder")):
            pairs(["single.wav"], None, overwrite=True)
        with pytest.raises(ConfigError, match=one_line("single.codec", "folder")):
            check_outputs([Path("single.codec")], overwrite=False)


def _closed_pipe() -> int:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


JOBS = [Job(Path(name), Path(name + ".out")) for name in ("a", "b", "c")]


class TestDone:
    def test_what_is_good_is_left_out(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A result that is bad, or can't be judged, is not done."""
        jobs = [Job(Path(name), tmp_path / name) for name in ("good", "bad", "odd", "gone")]
        for job in jobs[:3]:
            job.target.touch()

        def is_done(job: Job) -> bool:
            if job.target.name == "odd":
                raise AudioError("it is no audio")
            return job.target.name == "good"

        assert leave_done("prog", jobs, is_done) == jobs[1:]
        assert capsys.readouterr() == ("", "prog: 1 of 4 files are done already\n")
        assert leave_done("prog", jobs[3:], is_done) == jobs[3:]
        assert capsys.readouterr() == ("", "")

    def test_existing_results_may_be_skipped(self, tmp_path: Path) -> None:
        for name in ("a.wav", "a.codec"):
            (tmp_path / name).touch()
        assert plan([tmp_path / "a.wav"], None, AUDIO, [".codec"], skip=True)


class TestRun:
    def test_lines_go_to_stdout(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_jobs("prog", JOBS, lambda job: Outcome(f"{job.target} done")) == 0
        assert capsys.readouterr() == ("a.out done\nb.out done\nc.out done\n", "")

    def test_a_bad_file_among_several(self, capsys: pytest.CaptureFixture[str]) -> None:
        def work(job: Job) -> Outcome:
            if job.source == Path("b"):
                raise AudioError("it has no samples")
            return Outcome(f"{job.target} done")

        assert run_jobs("prog", JOBS, work) == 1
        assert capsys.readouterr() == (
            "a.out done\nc.out done\n",
            "prog: b: it has no samples\nprog: 1 of 3 files failed, are incomplete or were not tried\n",
        )

    def test_the_only_file_is_bad(self) -> None:
        def work(job: Job) -> Outcome:
            raise AudioError(f"{job.source} has no samples")

        with pytest.raises(CodecError, match=r"^a has no samples$"):
            run_jobs("prog", JOBS[:1], work)

    def test_salvaged(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_jobs("prog", JOBS[:1], lambda job: Outcome("a.out done", "half is lost")) == 1
        assert capsys.readouterr() == ("a.out done\n", "prog: a: half is lost\n")

    def test_any_error_of_a_file_is_reported_and_the_others_go_on(self, capsys: pytest.CaptureFixture[str]) -> None:
        def work(job: Job) -> Outcome:
            if job.source == Path("b"):
                raise UnicodeEncodeError("ascii", "b", 0, 1, "not in range")
            return Outcome(f"{job.target} done")

        assert run_jobs("prog", JOBS, work) == 1
        out, err = capsys.readouterr()
        assert out == "a.out done\nc.out done\n"
        assert re.search(one_line("b", "UnicodeEncodeError", "not in range"), err.splitlines()[0])
        with pytest.raises(CodecError, match=one_line("b", "UnicodeEncodeError")):
            run_jobs("prog", JOBS[1:2], work)

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
    def test_a_full_disk_ends_the_run(self, capsys: pytest.CaptureFixture[str], order: tuple[int, ...]) -> None:
        tried = []

        def results() -> Iterator[tuple[int, Outcome | CodecError]]:
            for number in order:
                tried.append(number)
                yield number, DiskFullError("the disk is full") if number == 1 else Outcome(f"{number} done")

        assert report("prog", JOBS, results()) == 1
        before = order[: order.index(1)]
        assert tuple(tried) == (*before, 1)
        out, err = capsys.readouterr()
        assert out.splitlines() == [f"{number} done" for number in sorted(before)]
        assert [line.split()[1] for line in err.splitlines()] == ["b:", str(3 - len(before))]

    def test_a_reader_who_has_left_ends_the_run(self) -> None:
        with pytest.raises(BrokenPipeError):
            attempt(os.write, _closed_pipe(), b"a")

    def test_results_in_any_order_are_told_in_that_of_the_jobs(self, capsys: pytest.CaptureFixture[str]) -> None:
        told = []

        def results() -> Iterator[tuple[int, Outcome | CodecError]]:
            for number in (1, 0, 2):
                yield number, AudioError("it has no samples") if number == 1 else Outcome(f"{number} done")
                told.append(capsys.readouterr())

        assert report("prog", JOBS, results()) == 1
        assert told == [("", ""), ("0 done\n", "prog: b: it has no samples\n"), ("2 done\n", "")]
        assert capsys.readouterr() == ("", "prog: 1 of 3 files failed, are incomplete or were not tried\n")

    def test_an_attempt_keeps_every_error(self) -> None:
        def work(divisor: int) -> int:
            if divisor == 1:
                raise AudioError("one")
            return 6 // divisor

        assert attempt(work, 2) == 3
        error = attempt(work, 1)
        assert isinstance(error, AudioError) and str(error) == "one"
        error = attempt(work, 0)
        assert isinstance(error, CodecError) and isinstance(error.__cause__, ZeroDivisionError)
