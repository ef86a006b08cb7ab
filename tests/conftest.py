"""Tests run by folder: with pytest-xdist several folders at once, and each one says in a line when it is done."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.scheduler.loadscope import LoadScopeScheduling
    from xdist.workermanage import WorkerController

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

# Folders that take longest, in the order in which they are started; the others follow.
FIRST = ("tests/local/destroy", "tests/local/runs", "tests/local/failures", "tests/unit/training", "tests/infra")


def folder(nodeid: str) -> str:
    """The folder of a test's file."""
    return str(PurePosixPath(nodeid.partition("::")[0]).parent)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("dsession") or hasattr(config, "workerinput"):
        # Several folders share the cores: a second thread of PyTorch's only takes time from another folder's tests.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput") and config.get_verbosity() <= 0:
        config.pluginmanager.register(Progress(reporter))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: the deployed tests wait as long as they compute."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Gives a worker a folder at a time, so that what a folder's tests share is made once."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return folder(nodeid)

        def _reschedule(self, node: WorkerController) -> None:
            # A folder that is given out waits behind what its worker still has: one test, which is the least possible.
            if not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
                super()._reschedule(node)

    config.option.loadscopereorder = False  # keeps the order of pytest_collection_modifyitems
    return ByFolder(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the folders that take longest first where folders run side by side."""
    if hasattr(config, "workerinput"):
        order = {name: number for number, name in enumerate(FIRST)}
        items.sort(key=lambda item: order.get(folder(item.nodeid), len(FIRST)))


@pytest.fixture
def torchrun_port() -> Iterator[None]:
    """Held by a test whose job's processes meet at the port of training/start.py: it is one for the whole machine."""
    with (Path(tempfile.gettempdir()) / "tuneway-torchrun.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Progress:
    """A line for each folder whose tests are all done, and one for each test that fails, in the place of dots."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._left: Counter[str] = Counter()
        self._results: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._left = self._left or Counter(folder(item.nodeid) for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: WorkerController, ids: list[str]) -> None:
        self._left = self._left or Counter(map(folder, ids))

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, object]:
        """Shows no letter, and takes the word of a failure only, which stands in the summary: all results are counted."""
        category, _, word = yield
        return category, "", word if report.failed else ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = folder(report.nodeid)
        self._seconds[name] += report.duration
        if report.failed:
            self._reporter.write_line(f"FAILED {report.nodeid} ({report.when})", red=True)
        if report.when == "call" or not report.passed:
            self._results[name][report.outcome] += 1
        if report.when == "teardown":
            self._left[name] -= 1
            if not self._left[name]:
                counts = ", ".join(f"{count} {outcome}" for outcome, count in self._results[name].items())
                self._reporter.write_line(f"{name}: {counts} in {self._seconds[name]:.0f} s")
