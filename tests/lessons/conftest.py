"""Each lesson's tests run in one worker, which runs the lesson once."""

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "lessons" and "page" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
