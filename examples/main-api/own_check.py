"""The main API's own check of a session: the signature and the claims of the JWT.

It answers in the form of Lockgate's `session/validate`, with `degraded: true`. It knows
nothing of revocations: those only Lockgate keeps.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

import jwt

from lockgate import shown

LEEWAY = 60
ACCESS_MAX = 86_400
MOST_TOKEN = 16 * 1024
LATEST = 253_402_300_799
ERRORS = {
    "token_missing": ("AUTH_001", "No token was sent"),
    "token_expired": ("AUTH_003", "The token has expired"),
    "service_unavailable": ("AUTH_004", "The service is not available"),
    "invalid_signature": ("AUTH_005", "The token's signature is wrong"),
    "invalid_token": ("AUTH_005", "The token is not valid"),
    "unsupported_format": ("AUTH_005", "The token's format is not supported"),
    "consistency_mismatch": ("AUTH_005", "The tokens are of different users"),
}
DECODING = {
    "require": [],
    "verify_exp": False,
    "verify_aud": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_iss": False,
    "verify_jti": False,
    "verify_sub": False,
}


class Refused(Exception):
    """Why a token is not good: a key of `ERRORS`."""

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


def secret() -> bytes:
    """The key, read again each time: it may change. Inner line ends are part of it."""
    path = Path(os.environ.get("JWT_SECRET_FILE") or "/run/secrets/jwt_secret")
    try:
        key = path.read_bytes().strip()
    except OSError:
        raise Refused("service_unavailable") from None
    if len(key) < 32:
        raise Refused("service_unavailable")
    return key


def bare(text: str) -> str:
    """Without spaces, quotes and a doubled `Bearer `."""
    text = text.strip().strip("\"'").strip()
    while text[:7].lower() == "bearer ":
        text = text[7:].strip()
    return text


def usable_id(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value, re.ASCII):
        value = int(value)
    good = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 2_147_483_647
    return value if good else None


def address(value: object) -> str | None:
    return value if isinstance(value, str) and "@" in value else None


def first(values: Iterable) -> object:
    return next((value for value in values if value is not None), None)


def identity(claims: dict) -> tuple[int, str, str]:
    """User id, e-mail and the name of the format."""
    sub, own = claims.get("sub"), claims.get("id")
    if usable_id(sub) and address(claims.get("email")):
        return usable_id(sub), claims["email"], "enhanced"
    if address(sub) and usable_id(own):
        return usable_id(own), sub, "legacy"
    user = first(usable_id(claims.get(name)) for name in ("sub", "id", "user_id"))
    email = first(address(claims.get(name)) for name in ("email", "sub", "username"))
    if user is None or email is None:
        raise Refused("unsupported_format")
    return user, email, "mixed"


def seconds(claims: dict, name: str) -> int | None:
    value = claims.get(name)
    if name not in claims or (name != "exp" and not isinstance(value, (int, float))):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LATEST:
        raise Refused("invalid_token")
    return int(value)


def session_id(claims: dict, token: str) -> str:
    claim = claims.get("session_id")
    if isinstance(claim, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,128}", claim):
        if not claim.isdigit():
            return claim
    return f"jwt-{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def verified(token: str, key: bytes) -> dict:
    """The session that a token stands for, in the fields of a valid answer."""
    if len(token.encode(errors="replace")) > MOST_TOKEN:
        raise Refused("invalid_token")
    try:
        header = jwt.get_unverified_header(token)
        if header.keys() & {"crit", "zip", "b64"}:
            raise Refused("invalid_token")
        claims = jwt.decode(token, key, algorithms=["HS256"], options=DECODING)
    except jwt.InvalidSignatureError:
        raise Refused("invalid_signature") from None
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise Refused("invalid_token") from None
    now = int(time.time())
    expires, issued = seconds(claims, "exp"), seconds(claims, "iat")
    seconds(claims, "nbf")
    if expires is None:
        raise Refused("invalid_token")
    if expires <= now - LEEWAY:
        raise Refused("token_expired")
    life = expires - (now if issued is None else issued)
    if claims.get("token_use") == "refresh" or life > ACCESS_MAX:
        raise Refused("invalid_token")
    if claims.get("role") not in ("admin", "user"):
        raise Refused("unsupported_format")
    user, email, kind = identity(claims)
    begun = shown(now if issued is None else issued)
    return {
        "valid": True,
        "authenticated": True,
        "user_id": user,
        "id": user,
        "email": email,
        "role": claims["role"],
        "session_id": session_id(claims, token),
        "expires_in_minutes": max(1, (expires - now) // 60),
        "expires_at": shown(expires),
        "session_created": begun,
        "last_activity": begun,
        "message": "Session is valid",
        "is_active": True,
        "degraded": True,
        "source": "jwt",
        "format_type": kind,
    }


def check(tokens: list[str]) -> dict:
    """The first good token's session. Raises `Refused`, also if two name different users."""
    begun = time.perf_counter()
    key, found, error = secret(), None, None
    for token in filter(None, map(bare, tokens)):
        try:
            session = verified(token, key)
        except Refused as refused:
            error = error or refused.error
            continue
        if found is not None and found["user_id"] != session["user_id"]:
            raise Refused("consistency_mismatch")
        found = found or session
    if found is None:
        raise Refused(error or "token_missing")
    return {**found, "response_time_ms": round((time.perf_counter() - begun) * 1000, 3)}


def invalid(error: str) -> dict:
    """The answer for a session that is not valid."""
    code, message = ERRORS[error]
    none = ("user_id", "email", "role", "session_id", "expires_at", "expires_in_minutes")
    body = {"valid": False, "authenticated": False, **dict.fromkeys(none)}
    return body | {"error": error, "code": code, "message": message, "degraded": True}


def failure(error: str) -> dict:
    """The body of an error status."""
    code, message = ERRORS[error]
    return {"detail": message, "error": error, "code": code, "message": message, "degraded": True}
