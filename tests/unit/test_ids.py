"""Ids and verification codes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrapayd.events import EventType, event_id
from astrapayd.ids import new_code, new_id, normal_code

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@st.composite
def codes(draw: st.DrawFn) -> str:
    """A code with a right check character."""
    body = draw(st.text(ALPHABET, min_size=7, max_size=7))
    return next(code for last in ALPHABET if (code := normal_code(body + last)) is not None)


def test_ids_have_their_prefix_and_128_random_bits() -> None:
    ids = {new_id("ses") for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"ses_[a-z2-7]{26}", i) for i in ids)


def test_a_new_code_is_in_its_normal_form() -> None:
    for _ in range(200):
        code = new_code()
        assert re.fullmatch(rf"[{ALPHABET}]{{4}}-[{ALPHABET}]{{4}}", code)
        assert normal_code(code) == code


@pytest.mark.parametrize("text", ["", "7KQ2", "7KQ2-M9X", "7KQ2-M9XDD", "7KQ2_M9XD", "ÄÖÜß-ÄÖÜß", "U" * 8, "0" * 500])
def test_what_is_no_code(text: str) -> None:
    assert normal_code(text) is None


@given(code=codes(), data=st.data())
def test_case_blanks_dashes_and_misread_letters_do_not_matter(code: str, data: st.DataObject) -> None:
    typed = code.replace("1", data.draw(st.sampled_from("1ILil"))).replace("0", data.draw(st.sampled_from("0Oo")))
    typed = typed.replace("-", data.draw(st.sampled_from(["-", "", " ", " - "])))
    assert normal_code(data.draw(st.sampled_from([typed, typed.lower(), f" {typed} "]))) == code


@given(code=codes(), place=st.integers(0, 7), wrong=st.sampled_from(ALPHABET))
def test_every_wrong_character_is_noticed(code: str, place: int, wrong: str) -> None:
    plain = code.replace("-", "")
    typed = plain[:place] + wrong + plain[place + 1 :]
    assert (normal_code(typed) is None) == (typed != plain)


@given(code=codes(), place=st.integers(0, 6))
def test_every_swap_of_neighbours_is_noticed(code: str, place: int) -> None:
    plain = code.replace("-", "")
    typed = plain[:place] + plain[place + 1] + plain[place] + plain[place + 2 :]
    assert (normal_code(typed) is None) == (typed != plain)


def test_event_ids_are_the_same_at_a_replay_and_differ_in_every_part() -> None:
    ids = [
        event_id(subject, kind, ordinal)
        for subject in ("ses_1", "ses_11")
        for kind in (*EventType, "payment.seen:pay_1", "payment.seen:pay_11")
        for ordinal in (0, 1, 11)
    ]
    assert len(set(ids)) == len(ids)
    assert event_id("ses_1", EventType.SESSION_PAID, 0) == event_id("ses_1", "session.paid", 0)
