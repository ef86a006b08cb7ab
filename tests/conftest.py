"""Tests run by folder, with pytest-xdist several folders at once. Each folder prints a line when its tests are done."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import boto3
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.scheduler.loadscope import LoadScopeScheduling
    from xdist.workermanage import WorkerController

# A shell without job control starts `make test &` with SIGINT ignored, which the programs that a test ends by Ctrl-C inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples have no deadline, because their time depends on how busy the machine is.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

# The folders that take longest, in the order in which they start. The others follow.
FIRST = (
    "tests/local/destroy",
    "tests/local/runs",
    "tests/local/failures",
    "tests/local/cli",
    "tests/unit/training",
    "tests/infra",
)


@pytest.fixture(autouse=True)
def _default_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore boto3's default session, which a command of `tuneway` sets to its stack's Region."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.DEFAULT_SESSION)


def folder(nodeid: str) -> str:
    """Return the folder of a test's file."""
    return str(PurePosixPath(nodeid.partition("::")[0]).parent)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.pluginmanager.hasplugin("dsession") or hasattr(config, "workerinput"):
        # Several folders share the cores, so a second thread of PyTorch would only slow down another folder's tests.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput") and config.get_verbosity() <= 0:
        config.pluginmanager.register(Progress(reporter))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores, because the deployed tests wait as long as they compute."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Give each worker one folder at a time, so that the fixtures that a folder's tests share are made once."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return folder(nodeid)

        def _reschedule(self, node: WorkerController) -> None:
            # A new folder waits for the tests that its worker still has. That is one test, which is the least possible.
            if not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
                super()._reschedule(node)

    config.option.loadscopereorder = False  # keeps the order of pytest_collection_modifyitems
    return ByFolder(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the folders that take longest first if several folders run at once."""
    if hasattr(config, "workerinput"):
        order = {name: number for number, name in enumerate(FIRST)}
        items.sort(key=lambda item: order.get(folder(item.nodeid), len(FIRST)))


@pytest.fixture
def torchrun_port() -> Iterator[None]:
    """A lock for a test whose job uses the port of training/start.py. There is one such port on the machine."""
    with (Path(tempfile.gettempdir()) / "tuneway-torchrun.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Progress:
    """Prints a line for each folder whose tests are done, and one for each failed test, instead of dots."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter
        self._remaining: Counter[str] = Counter()
        self._results: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._remaining = self._remaining or Counter(folder(item.nodeid) for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: WorkerController, ids: list[str]) -> None:
        self._remaining = self._remaining or Counter(map(folder, ids))

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, object]:
        """Return no letter, and a word only for a failure, which the summary shows. All results are counted."""
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
            self._remaining[name] -= 1
            if not self._remaining[name]:
                counts = ", ".join(f"{count} {outcome}" for outcome, count in self._results[name].items())
                self._reporter.write_line(f"{name}: {counts} in {self._seconds[name]:.0f} s")
