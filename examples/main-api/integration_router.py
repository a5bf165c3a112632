"""`GET /api/v1/health/integration`: what the coordinator says, else that it is away.

Always 200 with the flat object that the front end reads: a word that it does not know would
hide the fault, and an error status would say no more.
"""

from fastapi import APIRouter, Request
from starlette.responses import Response

from lockgate import Away, ask, base, reply, shown

# The coordinator answers from known state; this is what it grants its own peers.
SECONDS = 1.5
COORDINATOR = "service_boundary_coordinator"
SERVICES = (
    "jwt_token_adapter",
    "session_validation_normalizer",
    "fallback_session_provider",
    "websocket_auth_gateway",
    COORDINATOR,
)
WORDS = {"healthy", "degraded", "error", "circuit_open", "unknown"}

router = APIRouter()
URL = base("service-boundary-coordinator", 8029) + "/api/v1/health/integration"


@router.get("/api/v1/health/integration")
async def integration(request: Request) -> Response:
    try:
        answer = await ask(request.app.state.client, "GET", URL, SECONDS)
        body = answer.body
        words = [body.get(name) for name in SERVICES]
        if answer.status != 200 or not all(isinstance(w, str) and w in WORDS for w in words):
            raise Away("its answer is not the health of the five services")
    except Away as away:
        body = unreachable(str(away))
    return reply(body, headers=[("cache-control", "no-store")])


def unreachable(why: str) -> dict:
    """The coordinator is in error, and of the others nothing is known."""
    now = shown()
    words = {name: "unknown" for name in SERVICES} | {COORDINATOR: "error"}
    return {
        **words,
        "status": "degraded",
        "redis_connection": "unavailable",
        "degraded": True,
        "timestamp": now,
        "services": {name: entry(word, why, now) for name, word in words.items()},
        "circuit_breakers": {},
    }


def entry(word: str, why: str, now: str) -> dict:
    failed = word == "error"
    return {
        "status": word,
        "response_time_ms": None,
        "error_count": int(failed),
        "last_check": now if failed else None,
        "error_message": why if failed else None,
    }
