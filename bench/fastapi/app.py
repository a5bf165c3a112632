"""The FastAPI twin: what scripts/bench measures of Lockgate, as one would write it in Python.

It answers the measured requests as Lockgate does, field by field, from the same Redis and
with the same cache of a second. It is no service to deploy: endpoints, formats of tokens
and rules that no measured request reaches are not there.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jwt
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, StrictInt, StrictStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

SERVICE = "jwt-token-adapter-service"
LEEWAY = 60
ACCESS_MAX = 86_400
CHANNEL = "auth.events"
HEADERS = {"cache-control": "no-store", "vary": "Cookie, Authorization"}
ERRORS = {
    "token_missing": ("AUTH_001", "No token was sent"),
    "token_revoked": ("AUTH_002", "The token has been revoked"),
    "user_disabled": ("AUTH_002", "The user is disabled"),
    "token_expired": ("AUTH_003", "The token has expired"),
    "invalid_signature": ("AUTH_005", "The token's signature is wrong"),
    "invalid_token": ("AUTH_005", "The token is not valid"),
    "unsupported_format": ("AUTH_005", "The token's format is not supported"),
    "consistency_mismatch": ("AUTH_005", "The user data do not match"),
}
DECODING = {
    "require": ["exp"],
    "verify_aud": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_iss": False,
    "verify_jti": False,
    "verify_sub": False,
}


def key() -> bytes:
    """The secret, without the line ends around it."""
    return Path(os.environ["JWT_SECRET_FILE"]).read_bytes().strip()


class Shared:
    """Redis, and what it said within the last second while it tells of changes."""

    def __init__(self, url: str) -> None:
        self.redis = Redis.from_url(url, socket_timeout=0.15, socket_connect_timeout=0.15)
        self.listener = Redis.from_url(url)
        self.connected = False
        self.linked = False
        self.known: dict[str, tuple[float, bytes | None]] = {}

    async def get_many(self, keys: list[str]) -> list[bytes | None]:
        now = time.monotonic()
        if self.linked:
            found = [self.known.get(one) for one in keys]
            if all(entry is not None and now - entry[0] < 1 for entry in found):
                return [entry[1] for entry in found]
        values = await self.redis.mget(keys)
        if self.linked:
            if len(self.known) > 100_000:
                self.known.clear()
            self.known.update((one, (now, value)) for one, value in zip(keys, values, strict=True))
        return values

    def forget(self, one: str) -> None:
        self.known.pop(one, None)

    async def ping(self) -> None:
        try:
            self.connected = bool(await self.redis.ping())
        except RedisError:
            self.connected = False

    async def beat(self) -> None:
        while True:
            await self.ping()
            await asyncio.sleep(1)

    async def listen(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self.listener.pubsub() as link:
                    await link.subscribe(CHANNEL)
                    self.linked = True
                    async for _ in link.listen():
                        self.known.clear()
            self.linked = False
            self.known.clear()
            await asyncio.sleep(0.5)


KEY = key()
shared = Shared(os.environ["REDIS_URL"])


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI):
    await shared.ping()
    tasks = [asyncio.create_task(shared.beat()), asyncio.create_task(shared.listen())]
    yield
    for task in tasks:
        task.cancel()


app = FastAPI(lifespan=lifespan, openapi_url=None)


class Refused(Exception):
    """Why a token was refused."""

    def __init__(self, error: str) -> None:
        self.error = error


def answer(body: dict, status: int = 200) -> Response:
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False) + "\n"
    return Response(text, status, HEADERS, media_type="application/json")


def shown(seconds: int | float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@app.exception_handler(RequestValidationError)
async def unprocessable(_request: Request, error: RequestValidationError) -> Response:
    broken = any(found["type"] == "json_invalid" for found in error.errors())
    message = "The body is not valid JSON" if broken else "Fields are missing or of a wrong type"
    body = {
        "detail": message,
        "error": "invalid_request",
        "code": "REQ_001",
        "message": message,
        "degraded": False,
    }
    return answer(body, 400 if broken else 422)


def away() -> bool:
    return not shared.connected


@app.get("/health")
async def health() -> Response:
    return answer(
        {
            "status": "degraded" if away() else "healthy",
            "service": SERVICE,
            "timestamp": shown(time.time()),
            "dependencies": {"redis": "disconnected" if away() else "connected"},
            "degraded": away(),
        }
    )


@dataclass(slots=True)
class Claims:
    """The identity and the times of a good token."""

    user_id: int
    email: str
    role: str
    session_id: str
    sha256: str
    issued_at: int | None
    expires_at: int
    degraded: bool = False


def decoded(token: str) -> dict:
    try:
        return jwt.decode(token, KEY, algorithms=["HS256"], leeway=LEEWAY, options=DECODING)
    except jwt.ExpiredSignatureError:
        raise Refused("token_expired") from None
    except jwt.InvalidSignatureError:
        raise Refused("invalid_signature") from None
    except jwt.InvalidTokenError:
        raise Refused("invalid_token") from None


def verified(token: str, use: str = "access") -> tuple[Claims, dict]:
    """The login that a token is for, and all its claims."""
    claims = decoded(token)
    expires, issued = int(claims["exp"]), claims.get("iat")
    issued = None if issued is None else int(issued)
    life = expires - (time.time() if issued is None else issued)
    marked_as = claims.get("token_use", "refresh" if life > ACCESS_MAX else "access")
    if marked_as != use or (use == "access" and life > ACCESS_MAX):
        raise Refused("invalid_token")
    user_id, email, role = claims.get("sub"), claims.get("email"), claims.get("role")
    usable = isinstance(user_id, str) and user_id.isascii() and user_id.isdigit()
    if not usable or not isinstance(email, str) or "@" not in email:
        raise Refused("unsupported_format")
    if role not in ("user", "admin") or not 1 <= int(user_id) <= 2_147_483_647:
        raise Refused("unsupported_format")
    sha256 = hashlib.sha256(token.encode()).hexdigest()
    session = claims.get("session_id")
    login = Claims(
        user_id=int(user_id),
        email=email,
        role=role,
        session_id=session if isinstance(session, str) and session else f"jwt-{sha256[:32]}",
        sha256=sha256,
        issued_at=issued,
        expires_at=expires,
    )
    return login, claims


def invalidated(value: bytes | None, user_id: int) -> bool:
    try:
        record = json.loads(value) if value else {}
    except ValueError:
        return False
    named = isinstance(record, dict) and record.get("user_id") == user_id
    return named and record.get("status") == "invalidated"


def cut_off(value: bytes | None, issued: int | None) -> bool:
    if value is None:
        return False
    return issued is None or issued <= int(value) or issued > time.time() + LEEWAY


async def known(login: Claims) -> bytes | None:
    """The session's record; refuses a login that is revoked or whose user is disabled."""
    keys = [
        f"lockgate:revoked:token:{login.sha256}",
        f"lockgate:revoked:session:{login.user_id}:{login.session_id}",
        f"lockgate:revoked:user:{login.user_id}",
        f"session:{login.session_id}",
        f"lockgate:user:{login.user_id}",
    ]
    login.degraded = away()
    try:
        token, session, user, record, state = await shared.get_many(keys)
    except RedisError:
        login.degraded = True
        return None
    if token is not None or session is not None or cut_off(user, login.issued_at):
        raise Refused("token_revoked")
    if invalidated(record, login.user_id):
        raise Refused("token_revoked")
    if state is not None and json.loads(state).get("is_active") is False:
        raise Refused("user_disabled")
    return record


def presented(body: str | None, request: Request) -> str | None:
    if body:
        return body
    bearer = request.headers.get("authorization", "")
    if bearer[:7].lower() == "bearer ":
        return bearer[7:]
    return request.cookies.get("access_token")


def invalid(error: str) -> Response:
    code, message = ERRORS[error]
    missing = ("user_id", "email", "role", "session_id", "expires_at", "expires_in_minutes")
    return answer(
        {
            "valid": False,
            "authenticated": False,
            **dict.fromkeys(missing),
            "error": error,
            "code": code,
            "message": message,
            "degraded": away(),
        }
    )


class Validation(BaseModel):
    """The body of a validation."""

    token: StrictStr | None = None
    expected_user_id: StrictInt | None = None
    expected_email: StrictStr | None = None


@app.post("/api/v1/jwt/validate")
async def validate(request: Request, body: Validation) -> Response:
    try:
        token = presented(body.token, request)
        if token is None:
            raise Refused("token_missing")
        login, _ = verified(token)
        await known(login)
        email = body.expected_email
        if body.expected_user_id not in (None, login.user_id) or (
            email is not None and email.strip().lower() != login.email.lower()
        ):
            raise Refused("consistency_mismatch")
    except Refused as refused:
        return invalid(refused.error)
    return answer(
        {
            "valid": True,
            "user_id": login.user_id,
            "email": login.email,
            "role": login.role,
            "format_type": "enhanced",
            "session_id": login.session_id,
            "expires_at": shown(login.expires_at),
            "issued_at": shown(login.issued_at),
            "expires_in": max(0, login.expires_at - int(time.time())),
            "degraded": login.degraded,
            "normalized": {
                "sub": str(login.user_id),
                "email": login.email,
                "id": login.user_id,
                "role": login.role,
                "session_id": login.session_id,
            },
        }
    )


RECORD_SECONDS = 86_400
FIELDS = {
    "session_id",
    "user_id",
    "email",
    "role",
    "status",
    "created_at",
    "last_activity",
    "expires_at",
    "metadata",
}
REPLACE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
    return 1
end
return 0
"""


@dataclass(slots=True)
class Times:
    """When a session began and was last seen, and who says so."""

    created: int
    last_activity: int
    source: str = "redis"


def naive(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


async def listed(login: Claims) -> None:
    sessions = f"user_sessions:{login.user_id}"
    async with shared.redis.pipeline(transaction=True) as pipeline:
        pipeline.sadd(sessions, login.session_id).expire(sessions, RECORD_SECONDS)
        await pipeline.execute()


async def created(login: Claims, now: int) -> Times:
    """Makes the session's record."""
    one = f"session:{login.session_id}"
    record = {
        "session_id": login.session_id,
        "user_id": login.user_id,
        "email": login.email,
        "role": login.role,
        "status": "active",
        "created_at": naive(login.issued_at or now),
        "last_activity": naive(now),
        "expires_at": naive(login.expires_at),
        "metadata": {"token_format": "enhanced"},
    }
    text = json.dumps(record, separators=(",", ":"))
    await shared.redis.set(one, text, ex=RECORD_SECONDS, nx=True)
    shared.forget(one)
    await listed(login)
    return Times(login.issued_at or now, now)


async def noted(login: Claims, value: bytes, now: int) -> Times:
    """Reads the session's record, and notes the activity once a minute."""
    by_token = Times(login.issued_at or now, login.issued_at or now, "jwt")
    try:
        record = json.loads(value)
    except ValueError:
        return by_token
    if not isinstance(record, dict) or set(record) != FIELDS:
        return by_token
    if record["user_id"] != login.user_id:
        raise Refused("consistency_mismatch")
    times = Times(moment(record["created_at"]), moment(record["last_activity"]))
    if now - times.last_activity >= 60:
        end = max(moment(record["expires_at"]), login.expires_at)
        record |= {"last_activity": naive(now), "expires_at": naive(end)}
        one = f"session:{login.session_id}"
        text = json.dumps(record, separators=(",", ":"))
        if await shared.redis.eval(REPLACE, 1, one, value, text, RECORD_SECONDS):
            times.last_activity = now
            await listed(login)
        shared.forget(one)
    return times


def marked(response: Response, form: str, valid: bool, degraded: bool) -> Response:
    response.headers["x-session-format"] = form
    response.headers["x-session-valid"] = str(valid).lower()
    response.headers["x-degraded-mode"] = str(degraded).lower()
    return response


class Session(BaseModel):
    """The body of a session check."""

    token: StrictStr | None = None


@app.post("/api/v1/session/validate")
async def session_validate(request: Request, body: Session) -> Response:
    begun = time.perf_counter()
    now = int(time.time())
    try:
        token = presented(body.token, request)
        if token is None:
            raise Refused("token_missing")
        login, _ = verified(token)
        record = await known(login)
        try:
            times = await (created(login, now) if record is None else noted(login, record, now))
        except RedisError:
            login.degraded = True
            times = Times(login.issued_at or now, login.issued_at or now, "jwt")
    except Refused as refused:
        return marked(invalid(refused.error), "none", False, away())
    spent = round((time.perf_counter() - begun) * 1e3, 2)
    response = answer(
        {
            "valid": True,
            "authenticated": True,
            "user_id": login.user_id,
            "id": login.user_id,
            "email": login.email,
            "role": login.role,
            "session_id": login.session_id,
            "expires_in_minutes": max(1, (login.expires_at - now) // 60),
            "expires_at": shown(login.expires_at),
            "session_created": shown(times.created),
            "last_activity": shown(times.last_activity),
            "message": "Session is valid",
            "is_active": True,
            "degraded": login.degraded,
            "source": times.source,
            "format_type": "enhanced",
            "response_time_ms": spent,
        }
    )
    return marked(response, "enhanced", True, login.degraded)


ACCESS_SECONDS = 3_600
REFRESH_SECONDS = 604_800
GRACE = 60
DETAILS = {
    "token_missing": "Refresh token not found",
    "token_expired": "Token expired",
    "token_revoked": "Token revoked",
    "user_disabled": "User disabled",
}


class Refresh(BaseModel):
    """The body of a refresh."""

    refresh_token: StrictStr | None = None


async def rotated(login: Claims, claims: dict, now: int) -> dict:
    """What the successor is made of: that of the first caller, while the grace holds."""
    began = claims.get("auth_time", login.issued_at or now)
    candidate = {
        "jti": secrets.token_hex(16),
        "access_jti": secrets.token_hex(16),
        "iat": now,
        "user_id": login.user_id,
        "email": login.email,
        "role": login.role,
        "session_id": login.session_id,
        "device_id": claims.get("device_id") or secrets.token_hex(16),
        "tfa_verified": bool(claims.get("tfa_verified", False)),
        "auth_time": began,
        "rotated_at": now,
    }
    one = f"lockgate:rotated:{login.sha256}"
    life = max(1, login.expires_at + LEEWAY - now)
    text = json.dumps(candidate, separators=(",", ":"))
    if await shared.redis.set(one, text, ex=life, nx=True):
        return candidate
    record = json.loads(await shared.redis.get(one))
    if now > record["rotated_at"] + GRACE:
        raise Refused("token_revoked")
    return record


def signed(record: dict, use: str, jti: str, life: int) -> str:
    claims = {
        "sub": str(record["user_id"]),
        "email": record["email"],
        "id": record["user_id"],
        "role": record["role"],
        "session_id": record["session_id"],
        "device_id": record["device_id"],
        "tfa_verified": record["tfa_verified"],
        "exp": record["iat"] + life,
        "iat": record["iat"],
        "nbf": record["iat"],
        "token_use": use,
        "jti": jti,
        "auth_time": record["auth_time"],
    }
    return jwt.encode(claims, KEY, algorithm="HS256")


def unrefreshed(error: str) -> Response:
    code, message = ERRORS[error]
    body = {
        "detail": DETAILS.get(error, "Invalid token"),
        "error": error,
        "code": code,
        "message": message,
        "degraded": away(),
    }
    response = answer(body, 401)
    response.headers["www-authenticate"] = "Bearer"
    return response


@app.post("/api/v1/jwt/refresh")
async def refresh(request: Request, body: Refresh) -> Response:
    now = int(time.time())
    try:
        token = body.refresh_token or presented(None, request)
        if not token:
            raise Refused("token_missing")
        login, claims = verified(token, "refresh")
        await known(login)
        record = await rotated(login, claims, now)
    except Refused as refused:
        return unrefreshed(refused.error)
    access = signed(record, "access", record["access_jti"], ACCESS_SECONDS)
    return answer(
        {
            "access_token": access,
            "token": access,
            "token_type": "bearer",
            "expires_in": ACCESS_SECONDS,
            "expires_at": shown(record["iat"] + ACCESS_SECONDS),
            "user_id": login.user_id,
            "email": record["email"],
            "role": record["role"],
            "session_id": login.session_id,
            "degraded": login.degraded,
            "message": "Token refreshed successfully",
            "refresh_token": signed(record, "refresh", record["jti"], REFRESH_SECONDS),
        }
    )
