"""What holds for every page in every state, without a browser."""

import dataclasses
import re
from gettext import NullTranslations
from html.parser import HTMLParser
from typing import Any, Literal, get_origin, get_type_hints

import pytest
from markupsafe import Markup

from astrapayd.web import views
from astrapayd.web.render import (
    STATIC_FOLDER,
    Locale,
    Pages,
    clock_text,
    contact_href,
    live_event,
    static_url,
    wallet_href,
    web_href,
)
from astrapayd.web.views import AddressText, PaymentView, View
from tests.web.sample_views import ADDRESS, LONG_AMOUNT, PAID, SAMPLES, WAITING

PAGES = Pages()
CSS = (STATIC_FOLDER / "checkout.css").read_text()
JS = (STATIC_FOLDER / "checkout.js").read_text()
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"

each_sample = pytest.mark.parametrize("name", SAMPLES)


class Reader(HTMLParser):
    """Collects tags with attributes, and the text that a customer sees or hears."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.title = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        self.texts += [value for key, value in attrs if value and key in ("aria-label", "alt", "data-done", "data-say")]
        if tag not in ("meta", "link", "input", "img", "br", "wbr", "path"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "title":
            self.title += data
        if data.strip():
            self.texts.append(data)


def everything_replaced(value: Any, text: str) -> Any:
    """A copy of a view with every free text field replaced; Markup and closed sets of words stay."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    hints = get_type_hints(type(value), vars(views))
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name)
        if isinstance(old, Markup) or get_origin(hints[field.name]) is Literal or field.name == "state":
            continue
        if isinstance(old, str):
            changes[field.name] = text
        elif isinstance(old, tuple):
            changes[field.name] = tuple(
                one if isinstance(one, Markup) else text if isinstance(one, str) else everything_replaced(one, text)
                for one in old
            )
        else:
            changes[field.name] = everything_replaced(old, text)
    return dataclasses.replace(value, **changes)


@each_sample
def test_every_sample_renders_with_language_title_and_landmark(name: str) -> None:
    html = PAGES.render(SAMPLES[name], Locale("ar", "rtl"))
    page = Reader(html)
    assert html.startswith("<!doctype html>")
    assert ("html", {"lang": "ar", "dir": "rtl"}) in page.tags
    assert page.title.strip() == page.title
    assert len(page.title) > 5
    tags = [tag for tag, _ in page.tags]
    assert tags.count("main") == tags.count("h1") == 1
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))


@each_sample
def test_hostile_text_in_every_field_comes_out_as_text(name: str) -> None:
    page = Reader(PAGES.render(everything_replaced(SAMPLES[name], EVIL)))
    assert not [attrs for tag, attrs in page.tags if tag == "script" and "src" not in attrs]
    assert not [attrs for _, attrs in page.tags if any(key.startswith("on") for key in attrs)]
    assert not [attrs for tag, attrs in page.tags if tag == "img"]
    assert "49" not in " ".join(page.texts)


@each_sample
@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "//evil.example/x"]
)
def test_hostile_address_in_every_field_is_no_link(name: str, url: str) -> None:
    page = Reader(PAGES.render(everything_replaced(SAMPLES[name], url)))
    for _, attrs in page.tags:
        for key in ("href", "src", "action"):
            assert not attrs.get(key, "").startswith(("javascript:", "java\n", "data:text", "//"))


@each_sample
def test_no_page_loads_or_posts_to_another_host(name: str) -> None:
    page = Reader(PAGES.render(SAMPLES[name]))
    for tag, attrs in page.tags:
        loads = [
            attrs.get("src", ""),
            attrs.get("action", ""),
            attrs.get("href", "") if tag == "link" else "",
        ]
        assert all(not url or url.startswith("/") for url in loads)
    assert not re.search(r"url\(|@import|https?:", CSS)
    assert not re.search(r"https?:", JS)


@each_sample
def test_no_page_needs_inline_style_or_script(name: str) -> None:
    html = PAGES.render(SAMPLES[name])
    page = Reader(html)
    assert not [attrs for _, attrs in page.tags if "style" in attrs or any(key.startswith("on") for key in attrs)]
    assert "<style" not in html
    assert all(attrs.get("src") for tag, attrs in page.tags if tag == "script")


@pytest.mark.parametrize("name", [name for name, view in SAMPLES.items() if isinstance(view, PaymentView)])
def test_payment_page_weighs_under_60_kilobytes_in_all(name: str) -> None:
    icon = (STATIC_FOLDER / "icon.svg").read_bytes()
    assert len(PAGES.render(SAMPLES[name]).encode()) + len(CSS.encode()) + len(JS.encode()) + len(icon) < 60_000


WORD = r"[A-Za-z]{2,}\w*"


class Dotted(NullTranslations):
    """Every letter of a translated string becomes a dot: what is still letters was not wrapped."""

    def gettext(self, message: str) -> str:
        return re.sub(r"%\(\w+\)s|\w", lambda found: found[0] if found[0].startswith("%(") else "·", message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)


@each_sample
def test_every_visible_word_is_translatable_or_comes_from_the_view(name: str) -> None:
    view = SAMPLES[name]
    known: set[str] = {"UTC"}

    def collect(value: Any) -> None:
        if isinstance(value, str | int):
            known.update(re.findall(WORD, str(value)))
        elif isinstance(value, tuple):
            for one in value:
                collect(one)
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                collect(getattr(value, field.name))
            collect(getattr(value, "exact", ""))

    collect(view)
    html = Pages(translations=lambda _lang: Dotted()).render(view)
    words = {word for text in Reader(html).texts for word in re.findall(WORD, text)}
    assert words <= known


@pytest.mark.parametrize("name", [name for name, view in SAMPLES.items() if isinstance(view, PaymentView)])
def test_live_message_is_the_same_html_as_the_page(name: str) -> None:
    view = SAMPLES[name]
    assert isinstance(view, PaymentView)
    live = PAGES.live(view)
    assert live.strip() in PAGES.render(view)
    event = live_event(live, 7).decode()
    assert event.startswith("event: live\nid: 7\ndata: <div ")
    assert event.endswith("\n\n")
    assert event.count("\n\n") == 1


def test_live_message_of_a_paid_session_names_another_page() -> None:
    assert 'data-page="paid"' in PAGES.live(PAID)
    assert 'data-page="payment"' in PAGES.live(WAITING)


def test_refresh_without_script_only_while_something_can_change() -> None:
    assert '<noscript><meta http-equiv="refresh"' in PAGES.render(WAITING)
    assert "http-equiv" not in PAGES.render(SAMPLES["cancelled"])


def test_amount_is_printed_whole_and_its_tail_is_marked() -> None:
    html = PAGES.render(LONG_AMOUNT)
    assert '<span class="number">12345.67890123<span class="tail">4567890123</span></span>' in html
    assert 'data-copy="12345.678901234567890123"' in html
    assert WAITING.asked.exact == "25.003417"


def test_address_groups_join_to_the_address_and_both_ends_are_strong() -> None:
    text = AddressText.of(ADDRESS)
    runs = [run for group in text.groups for run in group]
    assert "".join(run.text for run in runs) == ADDRESS
    assert "".join(run.text for run in runs if run.strong) == ADDRESS[:6] + ADDRESS[-6:]
    assert {len("".join(run.text for run in group)) for group in text.groups[:-1]} == {4}


def test_extras_of_plugins_appear_unescaped() -> None:
    assert 'action="/demo/pay"' in PAGES.render(SAMPLES["waiting-demo"])


@pytest.mark.parametrize(
    ("check", "url", "allowed"),
    [
        (web_href, "https://shop.example/?a=1", True),
        (web_href, "/l/slug", True),
        (web_href, "mailto:a@b.example", False),
        (web_href, "javascript:alert(1)", False),
        (web_href, "JAVASCRIPT:alert(1)", False),
        (web_href, " javascript:alert(1)", False),
        (web_href, "//evil.example", False),
        (web_href, "/\\evil.example", False),
        (web_href, "http://[", False),
        (web_href, "", False),
        (contact_href, "mailto:a@b.example", True),
        (contact_href, "javascript:alert(1)", False),
        (wallet_href, "ethereum:0xabc@1?value=1", True),
        (wallet_href, "https://evil.example", False),
    ],
)
def test_only_expected_kinds_of_address_become_links(check: Any, url: str, allowed: bool) -> None:
    assert check(url) == (url if allowed else "")


def test_clock_and_static_addresses() -> None:
    assert [clock_text(secs) for secs in (-5, 0, 65, 1781, 3900)] == [
        "0:00",
        "0:00",
        "1:05",
        "29:41",
        "1:05:00",
    ]
    assert re.fullmatch(r"/static/checkout\.css\?v=[0-9a-f]{12}", static_url("checkout.css"))


# Contrast


def colours(block: str) -> dict[str, tuple[float, float, float]]:
    """The custom properties of one scheme as linear sRGB."""
    found = re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block)

    def linear(pair: str) -> float:
        share = int(pair, 16) / 255
        return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4

    return {name: (linear(code[:2]), linear(code[2:4]), linear(code[4:])) for name, code in found}


def contrast(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    """Contrast ratio as WCAG defines it."""
    dark, light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (one, two))
    return (light + 0.05) / (dark + 0.05)


TOKENS = CSS[CSS.index("@layer tokens {") : CSS.index("@layer base {")]
LIGHT, DARK = (colours(part) for part in TOKENS.split("@media (prefers-color-scheme: dark)"))
TEXT_ON = [
    *((text, ground) for text in ("ink", "quiet", "accent") for ground in ("paper", "sheet", "sunk")),
    ("ink", "accent-wash"), ("quiet", "accent-wash"), ("accent", "accent-wash"),
    ("accent-ink", "accent"), ("good", "good-wash"), ("good", "sheet"),
    ("warn", "warn-wash"), ("warn", "sheet"), ("ink", "warn-wash"),
]  # fmt: skip


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_ON)
def test_text_contrast_is_at_least_4_5(scheme: dict[str, Any], text: str, ground: str) -> None:
    assert contrast(scheme[text], scheme[ground]) >= 4.5


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_edges_of_controls_have_contrast_of_at_least_3(scheme: dict[str, Any]) -> None:
    assert contrast(scheme["edge"], scheme["sheet"]) >= 3


def test_view_union_is_what_the_renderer_knows() -> None:
    assert {type(view) for view in SAMPLES.values()} == set(View.__args__)
