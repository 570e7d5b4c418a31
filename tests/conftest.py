"""What holds for every test.

On CI none is skipped unless it may be, workers do not crowd, and tests for a GPU wait for one.
"""

import os

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker for each core: threads of one would only wait for those of another. Before
    # torch is loaded; the processes that tests start inherit it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test measures time: a crowded machine is no mistake.
hypothesis.settings.register_profile("cnnbook", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("cnnbook")


def on_ci() -> bool:
    return os.environ.get("CI") == "true"


def failed(report, remedy: str):
    """Make a report of something skipped one of a failure that names the reason."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{reason}\nWith CI=true nothing is skipped. {remedy}"
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Fail a test that is skipped on CI, unless it is marked with the reason why it may be."""
    report = yield
    marker = item.get_closest_marker("may_skip")
    if marker is not None and not (marker.args and all(marker.args)):
        raise pytest.UsageError(f"{item.nodeid}: may_skip needs the reason: may_skip('…')")
    expected_to_fail = hasattr(report, "wasxfail")
    if on_ci() and report.skipped and not expected_to_fail and marker is None:
        return failed(report, "Install what is missing, or mark the test may_skip('reason').")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Fail a whole file that is skipped on CI."""
    report = yield
    return failed(report, "Install what is missing.") if on_ci() and report.skipped else report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leave out the tests marked gpu where there is none. `--collect-only` lists them anywhere."""
    for_a_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not for_a_gpu or config.option.collectonly:
        return
    import torch  # not for tests that do without it

    if not torch.cuda.is_available():
        # Deselected, not skipped: on CI, which has no GPU, what is skipped fails.
        config.hook.pytest_deselected(items=for_a_gpu)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]
