"""The transport against published numbers: within the tolerances of `tests.lartpc.published`."""

import pytest

from tests.lartpc.published import CHECKS, Check


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.quantity)
def test_published(check: Check) -> None:
    assert check.measure() == pytest.approx(check.reference, rel=check.tolerance)
