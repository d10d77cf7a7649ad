"""Text shown piece by piece is the text that would be shown at once."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomoat.run.text_stream import TextStream


def _stream(data: bytes, cuts: list[int], stop: list[str]) -> tuple[list[str], bool]:
    stream = TextStream(stop)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    pieces = [stream.push(data[a:b]) for a, b in itertools.pairwise(places)]
    return [*pieces, stream.finish()], stream.stopped


def _whole(data: bytes, stop: list[str]) -> str:
    text = data.decode("utf-8", "replace")
    ends = [place for place in (text.find(mark) for mark in stop if mark) if place >= 0]
    return text[: min(ends)] if ends else text


@given(
    st.text("ab é€😀\n", max_size=40), st.lists(st.integers(0, 200)), st.lists(st.text("ab é\n", max_size=4))
)
def test_pieces_join_to_the_text_before_the_first_stop_string(
    text: str, cuts: list[int], stop: list[str]
) -> None:
    data = text.encode()
    pieces, stopped = _stream(data, cuts, stop)
    # Cut by cut the first stop string that is complete ends the text; with one stop string that is the first.
    if len({mark for mark in stop if mark}) <= 1:
        assert "".join(pieces) == _whole(data, stop)
        assert stopped == (_whole(data, stop) != text)
    else:
        assert text.startswith("".join(pieces))
        assert not any(mark and mark in "".join(pieces) for mark in stop)


@given(st.binary(max_size=60), st.lists(st.integers(0, 200)))
def test_bytes_that_are_no_utf8_come_out_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    pieces, _ = _stream(data, cuts, [])
    assert "".join(pieces) == data.decode("utf-8", "replace")


def test_half_a_character_waits_for_its_other_half() -> None:
    stream = TextStream()
    euro = "€".encode()
    assert stream.push(euro[:1]) == ""
    assert stream.push(euro[1:]) == "€"


def test_half_a_stop_string_waits_until_it_is_decided() -> None:
    stream = TextStream(["\nuser:"])
    assert stream.push(b"fine\nus") == "fine"
    assert stream.push(b"ual") == "\nusual"
    assert not stream.stopped


@pytest.mark.parametrize("stop", [["END"], ["xyz", "END"]])
def test_nothing_follows_a_stop_string(stop: list[str]) -> None:
    stream = TextStream(stop)
    assert stream.push(b"so EN") == "so "
    assert stream.push(b"D and more") == ""
    assert stream.stopped and stream.matched == "END"
    assert stream.push(b"more") == ""
    assert stream.finish() == ""
