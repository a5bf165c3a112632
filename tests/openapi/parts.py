"""What scripts/openapi needs beside schemathesis: tokens, and the comparison of the
document with the plugins' tables of routes. It sends no request."""

import re
import secrets
import sys
import time
from pathlib import Path

import jwt
import yaml

ROOT = Path(__file__).resolve().parents[2]


def token(secret_file, user):
    """A good access token of its own session, signed with the key in the file."""
    key = Path(secret_file).read_bytes().strip()
    now = int(time.time())
    claims = {"sub": user, "email": "ada@example.org", "id": int(user), "role": "user",
              "session_id": "s-" + secrets.token_hex(8), "iat": now, "nbf": now, "exp": now + 3600}
    return jwt.encode(claims, key, "HS256")


def documented():
    paths = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["paths"]
    return {(tag, verb.upper(), path)
            for path, item in paths.items() for verb, operation in item.items()
            if verb != "servers" and not operation.get("x-websocket") for tag in operation["tags"]}


def served():
    found = set()
    for service in ("jwt-token-adapter", "session-validation-normalizer",
                    "fallback-session-provider", "websocket-auth-gateway",
                    "service-boundary-coordinator"):
        for source in (ROOT / "plugins" / service / "src").rglob("*.rs"):
            for verb, path in re.findall(r'Route::(get|post)\(\s*"([^"]+)"', source.read_text()):
                found.add((service, verb.upper(), path))
    return found


def routes():
    """Prints what only one side has; returns whether both are the same."""
    left, right = documented(), served()
    for route in sorted(left - right):
        print("documented, but not served:", *route)
    for route in sorted(right - left):
        print("served, but not documented:", *route)
    print(f"routes: {len(right)} served, {len(left)} documented")
    return left == right and bool(right)


if sys.argv[1] == "token":
    print(token(sys.argv[2], sys.argv[3]))
else:
    sys.exit(0 if routes() else 1)
