"""Asking Lockgate: one request, one deadline, no second try.

A peer that is down, slow, answers 5xx or says anything that is not a JSON object raises
`Away`; the caller then does without it.
"""

import asyncio
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit

import httpx
from starlette.requests import HTTPConnection
from starlette.responses import Response

# No answer of Lockgate is that large.
MOST_BYTES = 1 << 20
CONNECT_SECONDS = 0.5
# What a caller needs to know; the rest speaks of the peer's connection or of its own body.
PASSED_BACK = (
    "cache-control",
    "retry-after",
    "vary",
    "www-authenticate",
    "x-degraded-mode",
    "x-integration-layer",
    "x-session-format",
    "x-session-valid",
)


class Away(Exception):
    """Lockgate gave no usable answer; the text says why."""


@dataclass(slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: dict


def base(service: str, port: int) -> str:
    """Where a service is: `<SERVICE>_URL`, as for Lockgate itself."""
    name = service.replace("-", "_").upper() + "_URL"
    url = (os.environ.get(name) or f"http://127.0.0.1:{port}").rstrip("/")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise SystemExit(f"{name} must be an http:// or https:// URL")
    return url


def client() -> httpx.AsyncClient:
    """One for the process. Proxies and redirects are none of Lockgate's. It keeps no cookie:
    one user's would go out with the next user's call."""
    return httpx.AsyncClient(
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=200, max_keepalive_connections=50),
        follow_redirects=False,
        trust_env=False,
    )


def passed_on(caller: HTTPConnection, names: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    """These headers of a caller, byte for byte, and its address.

    uvicorn has already judged `X-Forwarded-For`: `client` is the peer, or who stands behind it
    if `FORWARDED_ALLOW_IPS` names the peer. One entry only: Lockgate believes the last one, so
    a proxy's own address behind it would hide the caller's.
    """
    headers = [(n, v) for n, v in caller.headers.raw if n.decode("latin-1") in names]
    if caller.client is not None:
        headers.append((b"x-forwarded-for", caller.client.host.encode()))
    return headers


async def ask(client: httpx.AsyncClient, method: str, url: str, seconds: float, **more) -> Answer:
    """One request within `seconds`, connecting and the whole body included."""
    try:
        async with asyncio.timeout(seconds), client.stream(method, url, **more) as response:
            if response.status_code >= 500 or 300 <= response.status_code < 400:
                raise Away(f"it answered {response.status_code}")
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise Away("its answer is too large")
    except (TimeoutError, httpx.TimeoutException):
        raise Away("it did not answer in time") from None
    except httpx.HTTPError as error:
        raise Away(f"no answer: {type(error).__name__}") from None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Away("its answer is not JSON") from None
    if not isinstance(value, dict):
        raise Away("its answer is not an object")
    headers = [(n, v) for n, v in response.headers.multi_items() if n.lower() in PASSED_BACK]
    return Answer(response.status_code, headers, value)


def reply(body: dict, status: int = 200, headers: list[tuple[str, str]] = ()) -> Response:
    """JSON as Lockgate writes it: one line."""
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False) + "\n"
    response = Response(text, status, media_type="application/json")
    for name, value in headers:
        response.headers.append(name, value)
    return response


def shown(seconds: float | None = None) -> str:
    """A time of the contract, now if none is given."""
    at = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
