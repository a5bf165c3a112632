"""Drives the socket of a running gateway with the `websockets` package, a client that
shares no code with Lockgate.

Reads a JSON object from standard input: `gateway` and `coordinator` (host and port),
`user` (`id`, `session_id`), and `tokens` by name. Prints a line for each case, then how
many passed; the exit code is 1 if any failed.
"""

import asyncio
import json
import sys
import urllib.request
from urllib.parse import quote

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

# It tells a hang from a slow machine and says nothing about speed.
GUARD_SECONDS = 90
LARGEST = 64 * 1024

NO_TOKEN = (1008, "Authentication token required - no bypass allowed")
BAD_TOKEN = (1008, "Invalid authentication token format")
REVOKED = (1008, "Session validation failed")
WRONG_USER = (1008, "User authentication failed")

given = json.load(sys.stdin)
tokens = given["tokens"]
session = given["user"]["session_id"]
cases = []


def case(function):
    cases.append(function)
    return function


def same(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def socket(query="", path="/ws/chat", **options):
    url = f"ws://{given['gateway']}{path}{'?' if query else ''}{query}"
    return connect(url, proxy=None, open_timeout=GUARD_SECONDS, **options)


def chat_socket(token=None, **options):
    return socket(f"token={quote(token or tokens['good'], safe='')}", **options)


def post(to, path, body, token=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"http://{given[to]}{path}", data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=GUARD_SECONDS) as answer:
        return answer.read()


async def said(ws):
    text = await ws.recv()
    assert isinstance(text, str), "a binary message came"
    return json.loads(text)


async def confirmed(ws, user_id=None):
    first = await said(ws)
    same(first["type"], "connection_confirmed")
    same(first["user_id"], user_id or given["user"]["id"])
    return first


async def ask(ws, message):
    await ws.send(json.dumps(message))
    return await said(ws)


async def alive(ws):
    same(await ask(ws, {"type": "ping"}), {"type": "pong"})


async def chat(ws, text):
    message = {
        "type": "chat_message", "message": text, "session_id": "1935651600000",
        "mode": "smart-router",
    }
    received = await ask(ws, message)
    same(received, {"type": "message_received", "session_id": session})
    return await said(ws)


async def closed(ws):
    """Code and reason of the close frame, which must come before any message."""
    try:
        came = await ws.recv()
    except ConnectionClosed as end:
        assert end.rcvd is not None, "the connection ended without a close frame"
        same((ws.close_code, ws.close_reason), (end.rcvd.code, end.rcvd.reason))
        return end.rcvd.code, end.rcvd.reason
    raise AssertionError(f"{came!r} instead of a close frame")


async def refused(opening):
    async with opening as ws:
        return await closed(ws)


# Comes first: its token lives for seconds only.
@case
async def a_token_that_ends_while_open():
    async with chat_socket(tokens["ending"]) as ws:
        await confirmed(ws)
        same((await said(ws))["type"], "token_refresh_request")
        same(await closed(ws), (4001, "Token expired"))


@case
async def opens_with_a_token_in_the_query():
    async with chat_socket() as ws:
        first = await confirmed(ws)
        same((first["session_id"], first["degraded"]), (session, False))


@case
async def decodes_the_token_and_takes_quotes_and_bearer_off():
    async with chat_socket(f'"Bearer {tokens["good"]}"') as ws:
        await confirmed(ws)


@case
async def ready_then_a_message_and_its_answer():
    async with chat_socket() as ws:
        await confirmed(ws)
        ready = {"type": "ready", "session_id": "x", "user_id": 7, "auth_method": "jwt",
                 "integration_layer": True}
        same(await ask(ws, ready), {"type": "ready_confirmed", "session_id": session})
        answer = await chat(ws, "Hi \u00e4\u20ac\U0001f600")
        same((answer["type"], answer["content"], answer["session_id"]),
             ("chat_response", "echo: Hi \u00e4\u20ac\U0001f600", session))
        same(sorted(answer["metadata"]), ["message_id", "model", "status"])


@case
async def an_error_of_the_chat_service_keeps_the_socket():
    async with chat_socket() as ws:
        await confirmed(ws)
        same(await chat(ws, "fail"), {"type": "error", "message": "The model is away"})
        same((await chat(ws, "again"))["content"], "echo: again")


@case
async def the_second_path():
    async with socket(f"token={tokens['good']}", "/api/v1/chat/ws") as ws:
        await confirmed(ws)


@case
async def no_token():
    same(await refused(socket()), NO_TOKEN)


@case
async def an_expired_token():
    same(await refused(chat_socket(tokens["expired"])), BAD_TOKEN)


@case
async def a_revoked_token():
    same(await refused(chat_socket(tokens["revoked"])), REVOKED)


@case
async def garbage_for_a_token():
    same(await refused(chat_socket("a/b+c==&?#")), BAD_TOKEN)


@case
async def tokens_of_two_users():
    other = {"Authorization": f"Bearer {tokens['other']}"}
    same(await refused(chat_socket(additional_headers=other)), WRONG_USER)


@case
async def a_token_in_authorization():
    header = {"Authorization": f"Bearer {tokens['good']}"}
    async with socket(additional_headers=header) as ws:
        await confirmed(ws)


@case
async def a_cookie_from_its_own_origin_only():
    cookie = {"Cookie": f"access_token={tokens['good']}"}
    own = f"http://{given['gateway']}"
    async with socket(additional_headers=cookie, origin=own) as ws:
        await confirmed(ws)
    foreign = socket(additional_headers=cookie, origin="https://elsewhere.example")
    same(await refused(foreign), NO_TOKEN)


@case
async def a_token_as_subprotocol_is_echoed():
    name = f"Bearer.{tokens['good']}"
    async with socket(subprotocols=[name]) as ws:
        same(ws.subprotocol, name)
        await confirmed(ws)


@case
async def another_subprotocol_goes_first():
    async with socket(subprotocols=[f"Bearer.{tokens['good']}", "chat.v1"]) as ws:
        same(ws.subprotocol, "chat.v1")
        await confirmed(ws)


@case
async def nothing_is_chosen_that_was_not_offered():
    async with chat_socket(compression=None) as ws:
        same(ws.subprotocol, None)
        assert "Sec-WebSocket-Protocol" not in ws.response.headers
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
        await confirmed(ws)


@case
async def an_offer_of_compression_is_declined():
    async with chat_socket(compression="deflate") as ws:
        assert "permessage-deflate" in ws.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
        await confirmed(ws)
        await alive(ws)


@case
async def a_ticket_opens_one_socket():
    asked = post, "gateway", "/api/v1/ws-auth/authorize", {"token": tokens["good"]}
    answer = json.loads(await asyncio.to_thread(*asked))
    assert answer["ticket"], answer
    ticket = f"ticket={quote(answer['ticket'], safe='')}"
    async with socket(ticket) as ws:
        await confirmed(ws)
        same((await chat(ws, "by ticket"))["content"], "echo: by ticket")
        same(await refused(socket(ticket)), BAD_TOKEN)
        await alive(ws)


@case
async def two_sockets_at_once():
    async with chat_socket() as first, chat_socket() as second:
        await asyncio.gather(confirmed(first), confirmed(second))
        texts = [f"number {number}" for number in range(10)]

        async def talk(ws, name):
            answers = [(await chat(ws, f"{name} {text}"))["content"] for text in texts]
            same(answers, [f"echo: {name} {text}" for text in texts])

        await asyncio.gather(talk(first, "first"), talk(second, "second"))
        await first.close()
        await alive(second)


@case
async def a_ping_frame_has_its_pong():
    async with chat_socket() as ws:
        await confirmed(ws)
        for payload in [b"", b"alive?", b"x" * 125]:
            await (await ws.ping(payload))
        # A pong that nobody has asked for means nothing.
        await ws.pong(b"unasked")
        await alive(ws)


@case
async def a_message_in_fragments():
    async with chat_socket() as ws:
        await confirmed(ws)
        await ws.send(['{"type":', "", '"pi', 'ng"}'])
        same(await said(ws), {"type": "pong"})


@case
async def a_ping_between_fragments():
    async with chat_socket() as ws:
        await confirmed(ws)

        async def pieces():
            yield '{"type":'
            await (await ws.ping(b"between"))
            yield '"ping"}'

        await ws.send(pieces())
        same(await said(ws), {"type": "pong"})


@case
async def the_largest_message():
    async with chat_socket() as ws:
        await confirmed(ws)
        await ws.send('{"type":"ping"}'.ljust(LARGEST))
        same(await said(ws), {"type": "pong"})


@case
async def a_message_that_is_too_large():
    async with chat_socket() as ws:
        await confirmed(ws)
        await ws.send(" " * (LARGEST + 1))
        same((await closed(ws))[0], 1009)


@case
async def fragments_that_are_too_large_together():
    async with chat_socket() as ws:
        await confirmed(ws)
        await ws.send([" " * LARGEST, " "])
        same((await closed(ws))[0], 1009)


@case
async def a_binary_message():
    async with chat_socket() as ws:
        await confirmed(ws)
        await ws.send(b"{}")
        same((await closed(ws))[0], 1003)


@case
async def a_text_that_is_not_utf_8():
    async with chat_socket() as ws:
        await confirmed(ws)
        await ws.send(b"\xff\xfe", text=True)
        same((await closed(ws))[0], 1007)


@case
async def broken_json_is_an_error_and_an_unknown_type_nothing():
    async with chat_socket() as ws:
        await confirmed(ws)
        await ws.send("{")
        same((await said(ws))["type"], "error")
        await ws.send('{"type":"typing_start"}')
        await alive(ws)


@case
async def the_closing_handshake():
    async with chat_socket() as ws:
        await confirmed(ws)
        await ws.close(1000, "done")
        same((ws.close_code, ws.close_reason), (1000, "done"))
        end = ws.close_exc
        same((end.rcvd.code, end.rcvd.reason, end.rcvd_then_sent), (1000, "done", False))


@case
async def a_logout_while_open():
    async with chat_socket(tokens["leaving"]) as leaving, chat_socket() as staying:
        await confirmed(leaving)
        await confirmed(staying)
        logout = post, "coordinator", "/api/v1/auth/logout", {}, tokens["leaving"]
        await asyncio.to_thread(*logout)
        same((await closed(leaving))[0], 4001)
        await alive(staying)
    same(await refused(chat_socket(tokens["leaving"])), REVOKED)


async def main():
    passed = 0
    for function in cases:
        name = function.__name__
        try:
            await asyncio.wait_for(function(), GUARD_SECONDS)
            passed += 1
            print(f"ok {name}")
        except Exception as fault:
            print(f"FAILED {name}: {type(fault).__name__}: {fault}")
    print(f"{passed} passed, {len(cases) - passed} failed")
    return 0 if passed == len(cases) else 1


sys.exit(asyncio.run(main()))
