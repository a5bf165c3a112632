"""A service in Python: `GET /hello?name=`, `GET /health`, and `POST /token`, which says
whose Bearer token it was given. `answer` decides; `Handler` is the way in for the host.
"""

import json
import os
import time
from urllib.parse import parse_qs

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import jwt
from wit_world.imports.types import Request, Response

# What the host says of a token -> error, code, status, words.
REFUSED = {
    jwt.Error.INVALID_TOKEN: ("invalid_token", "AUTH_005", 401, "The token is not valid"),
    jwt.Error.INVALID_SIGNATURE: (
        "invalid_signature",
        "AUTH_005",
        401,
        "The token's signature is wrong",
    ),
    jwt.Error.EXPIRED: ("token_expired", "AUTH_003", 401, "The token has expired"),
    jwt.Error.NO_SECRET: ("service_unavailable", "AUTH_004", 503, "No key is loaded"),
    jwt.Error.DENIED: ("service_unavailable", "AUTH_004", 503, "The grants do not allow this"),
}
MISSING = ("token_missing", "AUTH_001", 401, "No token was sent")
NOT_FOUND = ("invalid_request", "REQ_001", 404, "There is nothing at this path")
WRONG_VERB = ("invalid_request", "REQ_001", 405, "The method is not allowed at this path")


def hello(request: Request) -> Response:
    """Greets by the name in the query."""
    names = parse_qs(request.query or "").get("name", [])
    return as_json(200, {"hello": names[0] if names else "world"})


def health(_request: Request) -> Response:
    """Says that the service is up; `status` is what the host's probes look at."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    service = os.environ.get("SERVICE_NAME", "python-example-service")
    body = {"status": "healthy", "service": service, "timestamp": now, "dependencies": {}}
    return as_json(200, {**body, "degraded": False})


def token(request: Request) -> Response:
    """Whose token it is. The host verifies it: no key is ever in here."""
    given = bearer(request)
    if given is None:
        return refused(MISSING)
    try:
        claims = jwt.verify(given, jwt.Usage.ACCESS)
    except Err as error:
        return refused(REFUSED[error.value])
    user = claims.user_id or claims.id or claims.sub
    body = {"valid": True, "user_id": getattr(user, "value", None), "email": claims.email}
    return as_json(200, {**body, "role": claims.role, "expires_at": claims.expires_at})


ROUTES = {"/hello": ("GET", hello), "/health": ("GET", health), "/token": ("POST", token)}


def answer(request: Request) -> Response:
    """Finds the route. A HEAD is a GET: the host leaves the body out."""
    if request.path not in ROUTES:
        return refused(NOT_FOUND)
    verb, handle = ROUTES[request.path]
    if request.method != verb and (request.method, verb) != ("HEAD", "GET"):
        response = refused(WRONG_VERB)
        response.headers.append(("allow", "GET, HEAD" if verb == "GET" else verb))
        return response
    return handle(request)


def bearer(request: Request) -> str | None:
    """The token of `Authorization: Bearer` (RFC 6750 section 2.1)."""
    for name, value in request.headers:
        scheme, _, rest = value.strip().partition(" ")
        if name == "authorization" and scheme.lower() == "bearer" and rest.strip():
            return rest.strip()
    return None


def refused(row: tuple[str, str, int, str]) -> Response:
    """The error object of every 4xx and 5xx."""
    error, code, status, words = row
    body = {"detail": words, "error": error, "code": code, "message": words}
    response = as_json(status, {**body, "degraded": False})
    if status == 401:
        response.headers.append(("www-authenticate", "Bearer"))
    return response


def as_json(status: int, body: dict) -> Response:
    """An answer that no cache keeps."""
    headers = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("vary", "Cookie, Authorization"),
    ]
    return Response(status, headers, json.dumps(body).encode() + b"\n")


class Handler(exports.Handler):
    """What the host calls."""

    def handle(self, request: Request) -> Response:
        """Answers one request."""
        return answer(request)
