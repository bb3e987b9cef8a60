"""Decoders run in processes of their own, which may end at any time."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fixtures.expw import draw
from fixtures.pictures import encode, scan_of

from ferray.data.decoding import client
from ferray.data.decoding.formats import BadPhotographError


def test_each_of_many_threads_gets_the_answer_to_its_own_file() -> None:
    whole = [encode("PNG", draw(number, 30 + number, 40)) for number in range(12)]
    jpeg = encode("JPEG", draw(0, 120, 160))
    cut = jpeg[: sum(scan_of(jpeg)) // 2] + b"\xff\xd9"

    def decode(number: int) -> bool:
        if number % 3 == 0:
            with pytest.raises(BadPhotographError, match="premature end"):
                client.decode_photograph(cut, upright=True)
            return True
        at = number % len(whole)
        return np.array_equal(client.decode_photograph(whole[at], upright=True), draw(at, 30 + at, 40))

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(decode, range(60)))


def test_a_process_that_ended_while_it_was_idle_is_replaced() -> None:
    png = encode("PNG", draw(1))
    client.decode_photograph(png, upright=True)
    for decoder in client._idle:
        os.kill(decoder._process.pid, signal.SIGKILL)
        decoder._process.wait()

    assert np.array_equal(client.decode_photograph(png, upright=True), draw(1))


def test_a_file_that_crashes_its_decoder_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = client._DecoderProcess.ask

    def crash(self: client._DecoderProcess, content: bytes, upright: bool) -> object:
        self._process.kill()
        self._process.wait()
        return ask(self, content, upright)

    monkeypatch.setattr(client._DecoderProcess, "ask", crash)
    with pytest.raises(BadPhotographError, match="ends the process that decodes it"):
        client.decode_photograph(encode("PNG", draw(1)), upright=True)
