"""`/api/v1/session/validate`: Lockgate's check, else the own one.

An answer with a status other than 2xx logs the browser out. So only three of Lockgate's are
passed on: 200; 401, which it gives for a revoked session or a disabled user; and 429, for the
own check must not be a way round a limit.
"""

import json

from fastapi import APIRouter, Request
from starlette.responses import Response

import own_check
from lockgate import Away, ask, base, passed_on, reply

# Lockgate never takes longer for it; the browser gives up after 8 s.
SECONDS = 2.0
MOST_BODY = 64 * 1024
PASSED_ON = ("authorization", "content-type", "cookie", "x-integration-layer")

router = APIRouter()
URL = base("session-validation-normalizer", 8026) + "/api/v1/session/validate"


@router.api_route("/api/v1/session/validate", methods=["GET", "POST"])
async def validate(request: Request) -> Response:
    body = await read(request)
    sent = passed_on(request, PASSED_ON)
    try:
        more = {"content": body} if request.method == "POST" else {}
        client = request.app.state.client
        answer = await ask(client, request.method, URL, SECONDS, headers=sent, **more)
        if not usable(answer.status, answer.body):
            raise Away(f"its answer {answer.status} is none of a session check")
        return reply(answer.body, answer.status, answer.headers)
    except Away:
        return own(request, body)


def usable(status: int, body: dict) -> bool:
    """A text in place of a boolean would log anybody in."""
    if status == 429:
        return True
    if status == 401:
        return body.get("valid") is False
    return status == 200 and isinstance(body.get("valid"), bool)


async def read(request: Request) -> bytes:
    """The body; none if it is too large, for the check does not rest on it."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            return b""
    return bytes(body)


def own(request: Request, body: bytes) -> Response:
    try:
        answer, status = own_check.check(presented(request, body)), 200
    except own_check.Refused as refused:
        away = refused.error == "service_unavailable"
        make = own_check.failure if away else own_check.invalid
        answer, status = make(refused.error), 503 if away else 200
    headers = [
        ("cache-control", "no-store"),
        ("vary", "Cookie, Authorization"),
        ("x-session-format", answer.get("format_type", "none")),
        ("x-session-valid", str(answer.get("valid", False)).lower()),
        ("x-degraded-mode", "true"),
    ]
    if (layer := request.headers.get("x-integration-layer")) is not None:
        headers.append(("x-integration-layer", layer))
    return reply(answer, status, headers)


def presented(request: Request, body: bytes) -> list[str]:
    """The tokens of a request, in Lockgate's order."""
    tokens = []
    try:
        fields = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        fields = {}
    if isinstance(fields, dict) and isinstance(fields.get("token"), str):
        tokens.append(fields["token"])
    bearer = request.headers.get("authorization", "")
    if bearer[:7].lower() == "bearer ":
        tokens.append(bearer)
    cookies = request.cookies
    return tokens + [cookies[name] for name in ("access_token", "auth_token") if name in cookies]
