from __future__ import annotations

import pytest

from keras_resnet.errors import one_line

POOL = (
    "HTTPConnectionPool(host='127.0.0.1', port=9): Max retries exceeded with url: "
    "/api (Caused by NewConnectionError('<urllib3.connection.HTTPConnection object at "
    "0x7f2a>: Failed to establish a new connection: [Errno 111] Connection refused'))"
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("first\nsecond", "first"),
        ("", "ValueError"),
        ("<a.B object at 0x7f12ab> is none", "<a.B> is none"),
        ("\x00\x12@ raw", "??@ raw"),
        (POOL, "[Errno 111] Connection refused"),
    ],
)
def test_an_error_is_one_line_that_can_be_read(text, line):
    assert one_line(ValueError(text)) == line
