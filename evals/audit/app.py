"""The audit as a web application on this machine: one pair, one question, one answer on disk."""

import hmac
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from evals.audit.labels import HumanLabel, LabelFile
from evals.audit.pairs import AuditPair
from evals.audit.show import shown
from schemas.errors import DataError

_HERE = Path(__file__).parent / "page"
_MAX_FORM_BYTES = 64_000
_MAX_NAME, _MAX_NOTE = 60, 4000
_CHOICES = (
    ("first", "Answer 1 is better", "1"),
    ("tie", "Tie", "t"),
    ("second", "Answer 2 is better", "2"),
    ("skip", "Skip", "s"),
)

Next = Callable[[Request], Awaitable[Response]]


@dataclass
class Audit:
    """The pairs of an audit, what has been said of them, and the secret of this process."""

    pairs: Sequence[AuditPair]
    labels: LabelFile
    seed: int
    after: str
    port: int
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    shown_at: dict[tuple[str, str], float] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def progress(self, annotator: str) -> tuple[list[AuditPair], int]:
        """The pairs that a person has not answered yet, in order, and how many were answered."""
        ids = {pair.comparison_id for pair in self.pairs}
        done = {label.comparison_id for label in self.labels.read() if label.annotator == annotator}
        left = [pair for pair in self.pairs if pair.comparison_id not in done]
        return left, len(ids & done)

    def answer(self, annotator: str, comparison_id: str, choice: str, note: str) -> None:
        """Write one answer; it is on the disk when this returns.

        Raises:
            KeyError: no such pair, or no such choice.
        """
        pair = {pair.comparison_id: pair for pair in self.pairs}[comparison_id]
        label = shown(pair, annotator, self.seed).label(choice)
        now = time.monotonic()
        began = self.shown_at.pop((annotator, comparison_id), now)
        seconds = round(now - began, 1)
        said = (comparison_id, annotator, label, seconds, note, pair.prompt_id, pair.probability)
        with self.lock:
            self.labels.add(HumanLabel(*said))


def application(audit: Audit) -> Starlette:
    """The web application; it answers this machine's own browser and no other site's page."""
    pages = _Pages(audit)
    return Starlette(
        routes=[
            Route("/", pages.start),
            Route("/judge", pages.judge),
            Route("/label", pages.label, methods=["POST"]),
            Route("/undo", pages.undo, methods=["POST"]),
            Route("/audit.css", pages.file),
            Route("/audit.js", pages.file),
        ],
        middleware=[Middleware(_OnlyHere, port=audit.port)],
        exception_handlers={DataError: _damaged},
    )


class _OnlyHere(BaseHTTPMiddleware):
    """Refuses other hosts' names (DNS rebinding) and other sites' requests; sets strict headers."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        super().__init__(app)
        names = ("127.0.0.1", "localhost")
        self._hosts = {f"{name}:{port}" for name in names}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def dispatch(self, request: Request, call_next: Next) -> Response:
        """Answer what comes from here, refuse the rest."""
        if request.headers.get("host") not in self._hosts:
            return PlainTextResponse("this page answers 127.0.0.1 alone", 403)
        origin = request.headers.get("origin")
        if origin is not None and origin not in self._origins:
            return PlainTextResponse("this page takes nothing from other sites", 403)
        site = request.headers.get("sec-fetch-site", "none")
        reading = request.headers.get("sec-fetch-mode") == "navigate" and request.method == "GET"
        if site not in ("none", "same-origin") and not reading:
            return PlainTextResponse("this page takes nothing from other sites", 403)
        response = await call_next(request)
        response.headers.update(
            {
                "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src "
                "'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Cross-Origin-Opener-Policy": "same-origin",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
                "Referrer-Policy": "same-origin",
                "Cache-Control": "no-store",
            }
        )
        return response


async def _damaged(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"error: {error}", 500)


class _Pages:
    """The pages, made of templates; a form's answer leads on to the next pair."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._templates = Environment(
            loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined
        )

    async def start(self, request: Request) -> Response:
        """Ask for the annotator's name."""
        return self._page("start.html.jinja", total=len(self._audit.pairs))

    async def file(self, request: Request) -> Response:
        """The style or the script of the pages."""
        kind = "text/css" if request.url.path.endswith(".css") else "text/javascript"
        text = (_HERE / request.url.path.lstrip("/")).read_text(encoding="utf-8")
        return Response(text, media_type=kind)

    async def judge(self, request: Request) -> Response:
        """The next pair of a person, or what to do when there is none left."""
        name = request.query_params.get("annotator", "").strip()[:_MAX_NAME]
        if not name:
            return RedirectResponse("/", 303)
        left, done = await run_in_threadpool(self._audit.progress, name)
        common = {
            "annotator": name,
            "secret": self._audit.secret,
            "done": done,
            "total": len(self._audit.pairs),
        }
        if not left:
            return self._page("end.html.jinja", after=self._audit.after, **common)
        self._audit.shown_at[name, left[0].comparison_id] = time.monotonic()
        pair = shown(left[0], name, self._audit.seed)
        return self._page("pair.html.jinja", pair=pair, choices=_CHOICES, **common)

    async def label(self, request: Request) -> Response:
        """Take an answer, put it on disk, and show the next pair."""
        form = await self._form(request)
        if form is None:
            return PlainTextResponse("this form is not of this page: open the page again", 403)
        name = form.get("annotator", "").strip()[:_MAX_NAME]
        note = form.get("note", "").strip()[:_MAX_NOTE]
        said = (name, form.get("comparison_id", ""), form.get("choice", ""), note)
        try:
            if not name:
                raise KeyError("annotator")
            await run_in_threadpool(self._audit.answer, *said)
        except KeyError as error:
            return PlainTextResponse(f"no such pair or choice: {error}", 400)
        except OSError as error:
            return PlainTextResponse(
                f"error: {self._audit.labels.path}: the answer is not on disk ({error.strerror}); "
                "mend that, go back and answer again",
                500,
            )
        return self._onward(name)

    async def undo(self, request: Request) -> Response:
        """Take a person's last answer back and show that pair again."""
        form = await self._form(request)
        if form is None:
            return PlainTextResponse("this form is not of this page: open the page again", 403)
        name = form.get("annotator", "").strip()[:_MAX_NAME]
        await run_in_threadpool(self._audit.labels.take_back, name)
        return self._onward(name)

    async def _form(self, request: Request) -> dict[str, str] | None:
        """The fields of a form that this process has sent out; None where it has not."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _MAX_FORM_BYTES:
                return None
        fields = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        form = {name: values[-1] for name, values in fields.items()}
        known = hmac.compare_digest(form.get("secret", "").encode(), self._audit.secret.encode())
        return form if known else None

    def _onward(self, annotator: str) -> Response:
        return RedirectResponse(f"/judge?{urlencode({'annotator': annotator})}", 303)

    def _page(self, template: str, **values: object) -> Response:
        return HTMLResponse(self._templates.get_template(template).render(**values))
