"""One thread a process, which these models are too small to share; recordings that many tests read."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in the processes that tests start


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Folder of a few short recordings; nothing may write to it."""
    from tiny_runs import write_clips  # late: it imports torch, which must find the variable above

    return write_clips(tmp_path_factory.mktemp("clips"))


SKIPS = "CODEC_TESTS_MAY_SKIP"
"""Set to 0, the run fails if a test was skipped: then every optional package is there, and nothing goes untested."""


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped and os.environ.get(SKIPS) == "0":
        terminalreporter.section("skipped, but nothing may be")
        for report in skipped:
            terminalreporter.write_line(f"{report.nodeid}: {report.longrepr[-1]}")


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter.stats.get("skipped") and os.environ.get(SKIPS) == "0" and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
