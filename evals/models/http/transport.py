"""One call to an OpenAI-compatible server: an HTTP exchange, and what came of it."""

import asyncio
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from schemas.errors import BackendError, ConfigError, UnreachableError
from schemas.stage import ServerRuntime

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BUSY = frozenset({408, 409, 425, 429})
_UNUSABLE = frozenset({401, 402, 403, 404, 405, 407, 410})
_DETAIL_CHARACTERS = 200
_CONNECT_SECONDS = 10.0

Exchange = tuple[int, Mapping[str, str], bytes]


@dataclass
class CallFailed(Exception):
    """A call without an answer.

    `reason` is a code to count by. `again` says whether another attempt makes sense, `overload`
    whether the server has too much to do, `wait_seconds` what it asked callers to wait.
    """

    reason: str
    detail: str
    again: bool = True
    overload: bool = False
    wait_seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Transport:
    """Posts JSON to one server. The key is in its headers and nowhere else."""

    def __init__(self, base_url: str, key: str | None, runtime: ServerRuntime) -> None:
        """Raises ConfigError where the key cannot be sent as a header."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if key is not None:
            if not key.isascii() or not key.isprintable() or " " in key:
                raise ConfigError("the server's key has characters that no key has; set it again")
            headers["Authorization"] = f"Bearer {key}"
        self.base_url = base_url
        self._key = key
        self._timeout = runtime.timeout_seconds
        self._max_bytes = runtime.max_response_bytes
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(
                runtime.timeout_seconds,
                connect=min(_CONNECT_SECONDS, runtime.timeout_seconds),
                pool=None,
            ),
            limits=httpx.Limits(
                max_connections=runtime.concurrency, max_keepalive_connections=runtime.concurrency
            ),
            trust_env=httpx.URL(base_url).host not in _LOOPBACK,
        )

    async def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON that the server answers with.

        Raises:
            CallFailed: there is none, for a reason that concerns this call; `content_filter` where
                the server declined.
            BackendError: there will be none for any call: the key, the address or the account.
        """
        return self._answer(*await self.post(f"{self.base_url}/{path}", body))

    async def look(self, path: str) -> Any:
        """The JSON that the server shows there. Raises what `ask` raises."""
        return self._answer(*await self._exchange("GET", f"{self.base_url}/{path}", None))

    async def post(self, url: str, body: Mapping[str, Any]) -> Exchange:
        """Status, headers and content of a reply, whole and in time.

        Raises:
            CallFailed: no reply in time, a broken one, or one beyond the size limit.
        """
        return await self._exchange("POST", url, dict(body))

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> Any:
        if status != 200:
            raise self._refused(status, headers, content)
        return _json(headers, content)

    async def _exchange(self, method: str, url: str, body: dict[str, Any] | None) -> Exchange:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(method, url, json=body) as response,
            ):
                return response.status_code, response.headers, await self._content(response)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise CallFailed("not_there", self.redact(type(error).__name__)) from None
        except (TimeoutError, httpx.TimeoutException):
            raise CallFailed(
                "timeout", f"no reply within {self._timeout:g} s", overload=True
            ) from None
        except (httpx.HTTPError, httpx.StreamError) as error:
            # `from None`: the cause holds the request, and that the key.
            raise CallFailed("connection", self.redact(type(error).__name__)) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def redact(self, text: str) -> str:
        """The same text without the key, which a server may echo."""
        return text.replace(self._key, "***") if self._key else text

    async def _content(self, response: httpx.Response) -> bytes:
        """The content, whole and unpacked, and never more of it in memory than is allowed."""
        unpack = _unpacker(response.headers.get("content-encoding", ""))
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += unpack(chunk, self._max_bytes + 1 - len(content))
            if len(content) > self._max_bytes:
                raise CallFailed(
                    "reply_too_large", f"more than {self._max_bytes:,} bytes", again=False
                )
        return bytes(content)

    def _refused(
        self, status: int, headers: Mapping[str, str], content: bytes
    ) -> CallFailed | BackendError:
        """What another status than 200 means."""
        message, code = self._message(content)
        where = f"{self.base_url}: status {status}"
        if 400 <= status < 500 and "logprob" in f"{message} {code}".lower():
            return CallFailed("no_logprobs", message, again=False)
        if status in _UNUSABLE or 300 <= status < 400 or "insufficient_quota" in code:
            return UnreachableError(
                f"{where}{': ' if message else ''}{message}; check the address, the model's name "
                "and the key, then run the same command again: what was answered is kept",
                status,
            )
        if status in _BUSY or status >= 500:
            reason = "rate_limited" if status == 429 else "server_error"
            wait = _wait_seconds(headers)
            return CallFailed(reason, f"status {status} {message}".strip(), True, True, wait)
        if "content_filter" in code or "content_policy" in code:
            return CallFailed("content_filter", message, again=False)
        return CallFailed(_bad_request(message, code, status), message, again=False)

    def _message(self, content: bytes) -> tuple[str, str]:
        """The error's message, short and without the key, and its code or type."""
        try:
            body = json.loads(content)
            error = body.get("error", body) if isinstance(body, dict) else body
            fields = error if isinstance(error, dict) else {"message": error}
        except (ValueError, RecursionError):
            fields = {"message": content.decode(errors="replace")}
        message = " ".join(self.redact(str(fields.get("message") or "")).split())
        return message[:_DETAIL_CHARACTERS], f"{fields.get('code')} {fields.get('type')}"


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    """Unpacks a chunk to so many bytes at most. Packed replies were not asked for, but do come.

    Raises:
        CallFailed: it is packed in a way that nobody asked for, or more than once.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return lambda chunk, most: chunk[:most]
    if name not in ("gzip", "x-gzip", "deflate"):
        raise CallFailed("unasked_encoding", f"the reply is packed as {encoding[:40]}", again=False)
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def unpack(chunk: bytes, most: int) -> bytes:
        try:
            return unpacking.decompress(chunk, max(1, most))
        except zlib.error:
            raise CallFailed("not_unpacked", "the reply says it is packed, and is not") from None

    return unpack


def _json(headers: Mapping[str, str], content: bytes) -> Any:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise CallFailed("wrong_content_type", f"the reply is {kind[:80] or 'of no type'}")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise CallFailed("not_json", f"{len(content)} bytes that are no JSON") from None


def _bad_request(message: str, code: str, status: int) -> str:
    said = f"{message} {code}".lower()
    if status == 413 or "context_length" in said or "context length" in said or "too long" in said:
        return "prompt_too_long"
    return "bad_request"


def _wait_seconds(headers: Mapping[str, str]) -> float | None:
    """What Retry-After asks for: seconds, or a date."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            return max(0.0, float(milliseconds) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.strip().isdigit():
            return float(value)
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
