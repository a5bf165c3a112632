"""Sockets below `/api/v1/ws/`: Lockgate is asked before anything of a client is read.

A browser sees nothing of a refused handshake. So a socket that is refused is opened and
closed at once, with the code and the reason. While Lockgate is away none is opened: whose
login was revoked only Lockgate knows. It is asked again while a socket is open.
"""

import asyncio
import time
from datetime import datetime

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from lockgate import Away, ask, base, passed_on

# No answer of Lockgate takes longer.
SECONDS = 5.0
# Lockgate ends its own sockets within this time after a revocation.
AGAIN_SECONDS = 5.0
LEEWAY = 60
REFUSED, ENDED, TRY_LATER = 1008, 4001, 1013
# Where the request came from is Lockgate's to judge: it believes these of a trusted proxy.
PASSED_ON = ("authorization", "cookie", "origin", "sec-fetch-site", "x-forwarded-proto")

router = APIRouter()
GATEWAY = base("websocket-auth-gateway", 8028) + "/api/v1/ws-auth"


@router.websocket("/api/v1/ws/{channel:path}")
async def channel(socket: WebSocket, channel: str) -> None:
    question = asked(socket)
    try:
        user = await authorized(socket, question)
        seconds = left(user["expires_at"])
    except Away as away:
        return await turned_away(socket, TRY_LATER, str(away))
    except PermissionError as refused:
        return await turned_away(socket, REFUSED, str(refused))
    await socket.accept()
    try:
        async with asyncio.timeout(seconds) as end:
            watch = asyncio.create_task(watched(socket, question, user, end))
            try:
                await serve(socket, user, channel)
            finally:
                watch.cancel()
    except WebSocketDisconnect:
        pass
    except TimeoutError:
        await socket.close(ENDED, "the session has ended")


def asked(socket: WebSocket) -> dict:
    """What Lockgate is asked of a socket: headers and body."""
    host = socket.headers.get("x-forwarded-host") or socket.headers.get("host", "")
    headers = [*passed_on(socket, PASSED_ON), (b"x-forwarded-host", host.encode("latin-1"))]
    body = {"path": socket.url.path}
    if token := socket.query_params.get("token"):
        body["token"] = token
    return {"headers": headers, "json": body}


async def authorized(socket: WebSocket, question: dict) -> dict:
    """Lockgate's answer for a user who may open this socket."""
    client = socket.app.state.client
    answer = await ask(client, "POST", f"{GATEWAY}/authorize", SECONDS, **question)
    body = answer.body
    if answer.status == 200 and body.get("authorized") is True and "expires_at" in body:
        return body
    if answer.status in (401, 403) and body.get("authorized") is False:
        raise PermissionError(str(body.get("reason", "not authorized")))
    if answer.status == 429:
        wait = dict(answer.headers).get("retry-after", "a few")
        raise Away(f"too many requests, try again in {wait} seconds")
    raise Away(f"its answer {answer.status} is none of an authorization")


async def watched(socket: WebSocket, question: dict, user: dict, end: asyncio.Timeout) -> None:
    """Asks again and again, and brings the end forward once the session is not good any more."""
    await asyncio.sleep(AGAIN_SECONDS)
    while await alive(socket, question, user):
        await asyncio.sleep(AGAIN_SECONDS)
    end.reschedule(asyncio.get_running_loop().time())


async def alive(socket: WebSocket, question: dict, user: dict) -> bool:
    """Whether the session that opened a socket is good; also while Lockgate cannot say."""
    client = socket.app.state.client
    try:
        answer = await ask(client, "POST", f"{GATEWAY}/validate", SECONDS, **question)
    except Away:
        return True
    if answer.status != 200 or not isinstance(answer.body.get("valid"), bool):
        return True
    # Another token of the same request, such as a cookie, does not take a revoked one's place.
    same = all(answer.body.get(name) == user.get(name) for name in ("user_id", "session_id"))
    return answer.body["valid"] and same


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
