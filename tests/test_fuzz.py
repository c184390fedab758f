"""A part of `make fuzz`: few inputs for each reader of what others hand us."""

from __future__ import annotations

import fuzz
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz.READERS)
def test_damaged_bytes_are_right_or_refused_in_one_line(name):
    if name not in fuzz.available():
        pytest.skip("torch is not installed")
    found = fuzz.run(name, max(10, round(200 * fuzz.READERS[name].share)), seed=1)
    # What is no event, or no note of what was sent, is skipped.
    assert ("refused" in found) == (name not in ("events", "sent"))
