"""Views in, HTML out.

One jinja2 environment for each language, built at first use. Autoescape is on everywhere and an unknown name is an
error, so a template can neither print a raw string nor hide a missing one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from gettext import NullTranslations
from hashlib import blake2b
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined

from astrapayd.web.views import (
    LinkView,
    PaidView,
    PaymentView,
    ProblemView,
    ReceiptView,
    VerifyView,
    View,
)

STATIC_FOLDER = Path(__file__).parent / "static"

_WEB_SCHEMES = frozenset({"", "http", "https"})
_CONTACT_SCHEMES = frozenset({"http", "https", "mailto", "tel"})
_WALLET_SCHEMES = frozenset({"bitcoin", "ethereum", "tron", "litecoin", "solana"})

#: The template that shows a view of each kind.
TEMPLATES: Mapping[type[View], str] = {
    LinkView: "link.html",
    PaymentView: "payment.html",
    PaidView: "paid.html",
    ReceiptView: "receipt.html",
    VerifyView: "verify.html",
    ProblemView: "problem.html",
}


@dataclass(frozen=True, slots=True)
class Locale:
    """The language of a page and the direction it is read in."""

    lang: str = "en"
    dir: Literal["ltr", "rtl"] = "ltr"


ENGLISH = Locale()


@cache
def static_url(name: str) -> str:
    """Address of a static file, with a hash of its content so that it can be cached for ever."""
    digest = blake2b((STATIC_FOLDER / name).read_bytes(), digest_size=6).hexdigest()
    return f"/static/{name}?v={digest}"


def web_href(url: str) -> str:
    """``url`` when it is a web address or a path of this site, else nothing: no ``javascript:`` link."""
    return _allowed(url, _WEB_SCHEMES)


def contact_href(url: str) -> str:
    """``url`` when it is a web, mail or phone address, else nothing."""
    return _allowed(url, _CONTACT_SCHEMES)


def wallet_href(uri: str) -> str:
    """``uri`` when a wallet would open it, else nothing."""
    return _allowed(uri, _WALLET_SCHEMES)


def _allowed(url: str, schemes: frozenset[str]) -> str:
    # Browsers drop tabs and line ends inside an address, so "java\nscript:" must not slip past the parser.
    if any(ord(character) <= 32 or character == "\\" for character in url):
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    # "//host" has no scheme and still leaves this site.
    if parts.scheme not in schemes or (not parts.scheme and (parts.netloc or not url.startswith(("/", "#", "?")))):
        return ""
    return url


class Pages:
    """Renders views.

    :param bytecode_folder: where compiled templates are kept between starts; in memory only when absent.
    :param translations: gives the gettext catalogue of a language; English as written when absent.
    """

    def __init__(
        self,
        *,
        bytecode_folder: Path | None = None,
        translations: Callable[[str], NullTranslations] | None = None,
    ) -> None:
        self._bytecode = FileSystemBytecodeCache(str(bytecode_folder)) if bytecode_folder else None
        self._translations = translations or (lambda _lang: NullTranslations())
        self._environments: dict[str, Environment] = {}

    def render(self, view: View, locale: Locale = ENGLISH) -> str:
        """The whole page for ``view``."""
        return self._render(TEMPLATES[type(view)], view, locale)

    def live(self, view: PaymentView | PaidView, locale: Locale = ENGLISH) -> str:
        """The part of a session's page that changes: the data of one live message."""
        return self._render("_live.html" if isinstance(view, PaymentView) else "_live_paid.html", view, locale)

    def warm_up(self, locale: Locale = ENGLISH) -> None:
        """Compile every template now rather than at the first customer."""
        environment = self._environment(locale.lang)
        for name in environment.list_templates(extensions=["html"]):
            environment.get_template(name)

    def _render(self, template: str, view: View, locale: Locale) -> str:
        return self._environment(locale.lang).get_template(template).render(view=view, locale=locale)

    def _environment(self, lang: str) -> Environment:
        if lang not in self._environments:
            self._environments[lang] = self._new_environment(self._translations(lang))
        return self._environments[lang]

    def _new_environment(self, translations: NullTranslations) -> Environment:
        environment = Environment(
            loader=PackageLoader("astrapayd.web", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n"],
            bytecode_cache=self._bytecode,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals["static_url"] = static_url
        environment.filters.update(web_href=web_href, contact_href=contact_href, wallet_href=wallet_href)
        environment.filters["clock_text"] = clock_text
        environment.filters["utc_text"] = utc_text
        # The extension adds these methods to the environment; jinja2's stubs do not know them.
        install: Callable[..., None] = getattr(environment, "install_gettext_translations")  # noqa: B009
        install(translations, newstyle=True)
        return environment


def clock_text(seconds: int) -> str:
    """``29:41``, or ``1:05:00`` from an hour on; never negative."""
    left = max(0, seconds)
    minutes, secs = divmod(left, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def utc_text(iso: str) -> str:
    """``2026-11-23 12:00:05 UTC`` from ``2026-11-23T12:00:05Z``: plain enough for every language."""
    return iso.replace("T", " ").replace("+00:00", "Z").removesuffix("Z") + " UTC"


def live_event(html: str, revision: int) -> bytes:
    """``html`` as one server-sent event ``live``, with the session's revision as its id."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())
    return f"event: live\nid: {revision}\n{lines}\n".encode()
