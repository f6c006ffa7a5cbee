import shutil

import pytest

import api
import cluster as clusters


def pytest_sessionfinish():
    shutil.rmtree(api.STUBS, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what the processes of its cluster last logged."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for value in item.funcargs.values():
            if isinstance(value, clusters.Cluster):
                report.sections.append(("logs of the cluster", value.read_logs()))


@pytest.fixture(scope="session")
def demo_cluster():
    """The demo model, two ranks, one vision worker: shared by all tests that break nothing for long."""
    with clusters.Cluster(ranks=2, flags=["--coordinator-flag=--max-requests=64"]) as cluster:
        yield cluster


@pytest.fixture
def demo(demo_cluster):
    with api.Client(demo_cluster.endpoint) as client:
        yield client
