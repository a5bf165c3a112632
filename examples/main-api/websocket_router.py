"""Sockets below `/api/v1/ws/`: Lockgate is asked before anything of a client is read.

A browser sees nothing of a refused handshake. So a socket that is refused is opened and
closed at once, with the code and the reason. While Lockgate is away none is served: whose
login was revoked only Lockgate knows.
"""

import asyncio
import time
from datetime import datetime

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from lockgate import Away, ask, base, passed_on

# No answer of Lockgate takes longer.
SECONDS = 5.0
LEEWAY = 60
REFUSED, ENDED, TRY_LATER = 1008, 4001, 1013
# Where the request came from is Lockgate's to judge: it believes these of a trusted proxy.
PASSED_ON = ("authorization", "cookie", "origin", "sec-fetch-site", "x-forwarded-proto")

router = APIRouter()
URL = base("websocket-auth-gateway", 8028) + "/api/v1/ws-auth/authorize"


@router.websocket("/api/v1/ws/{channel:path}")
async def channel(socket: WebSocket, channel: str) -> None:
    try:
        user = await authorized(socket)
        seconds = left(user["expires_at"])
    except Away as away:
        return await turned_away(socket, TRY_LATER, str(away))
    except PermissionError as refused:
        return await turned_away(socket, REFUSED, str(refused))
    await socket.accept()
    try:
        async with asyncio.timeout(seconds):
            await serve(socket, user, channel)
    except WebSocketDisconnect:
        pass
    except TimeoutError:
        await socket.close(ENDED, "the token has ended")


async def authorized(socket: WebSocket) -> dict:
    """Lockgate's answer for a user who may open this socket."""
    host = socket.headers.get("x-forwarded-host") or socket.headers.get("host", "")
    headers = [*passed_on(socket, PASSED_ON), ("x-forwarded-host", host)]
    question = {"path": socket.url.path}
    if token := socket.query_params.get("token"):
        question["token"] = token
    client = socket.app.state.client
    answer = await ask(client, "POST", URL, SECONDS, headers=headers, json=question)
    body = answer.body
    if answer.status == 200 and body.get("authorized") is True and "expires_at" in body:
        return body
    if answer.status in (401, 403) and body.get("authorized") is False:
        raise PermissionError(str(body.get("reason", "not authorized")))
    if answer.status == 429:
        wait = dict(answer.headers).get("retry-after", "a few")
        raise Away(f"too many requests, try again in {wait} seconds")
    raise Away(f"its answer {answer.status} is none of an authorization")


async def turned_away(socket: WebSocket, code: int, reason: str) -> None:
    await socket.accept()
    await socket.close(code, reason.encode()[:123].decode(errors="ignore"))


def left(expires_at: str | None) -> float | None:
    """Seconds until the token has ended, as Lockgate counts."""
    if expires_at is None:
        return None
    try:
        end = datetime.fromisoformat(expires_at)
    except (TypeError, ValueError):
        end = None
    if end is None or end.tzinfo is None:
        raise Away("its answer names no time at which the token ends")
    return end.timestamp() + LEEWAY - time.time()


async def serve(socket: WebSocket, user: dict, channel: str) -> None:
    """What the main API does with a socket; here it says who is there, and what was said."""
    shown = {name: user.get(name) for name in ("user_id", "email", "role", "degraded")}
    await socket.send_json({"type": "welcome", "channel": channel, **shown})
    while True:
        await socket.send_json({"type": "echo", "text": await socket.receive_text()})
