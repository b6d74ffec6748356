"""One thread a process, which these models are too small to share; recordings that many tests read."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, here and in the processes that tests start


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Folder of a few short recordings; nothing may write to it."""
    from tiny_runs import write_clips  # late: it imports torch, which must find the variable above

    return write_clips(tmp_path_factory.mktemp("clips"))
