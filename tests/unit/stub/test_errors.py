# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from stub.errors import Errno, ProtocolError, StubError, TargetError, error_reply


@pytest.mark.parametrize(
    ("error", "number", "text"),
    [
        (TargetError(Errno.EFAULT, "0x0 is not mapped"), b"E14", b"0x0 is not mapped"),
        (TargetError(Errno.ESRCH, "no thread p9.1"), b"E03", b"no thread p9.1"),
        (ProtocolError("malformed m"), b"E22", b"malformed m"),
        (ProtocolError("naïve"), b"E22", b"na\\xefve"),
    ],
)
def test_words_only_for_those_who_understand_them(
    error: StubError, number: bytes, text: bytes
) -> None:
    assert error_reply(error, text=False) == number
    assert error_reply(error, text=True) == b"E." + text
