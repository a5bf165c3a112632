"""What scripts/openapi needs beside schemathesis: tokens, and the comparison of the
document with the plugins' tables of routes, and what a run has reached. It sends no request."""

import json
import re
import secrets
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import jwt
import yaml

ROOT = Path(__file__).resolve().parents[2]


def token(secret_file, user, use):
    """A good token of its own session for a use, signed with the key in the file."""
    key = Path(secret_file).read_bytes().strip()
    now = int(time.time())
    claims = {"sub": user, "email": "ada@example.org", "id": int(user), "role": "user",
              "session_id": "s-" + secrets.token_hex(8), "iat": now, "nbf": now, "exp": now + 3600,
              "token_use": use}
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


def demanding():
    """The operations that need a token."""
    paths = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["paths"]
    return {(verb.upper(), path) for path, item in paths.items() for verb, operation in item.items()
            if verb != "servers" and not operation.get("x-websocket")
            and operation["security"] and {} not in operation["security"]}


def reached(report):
    """Prints how many requests a run made; returns whether each operation that it tried
    has answered with 2xx at least once, so that the good paths are checked as well."""
    entries = json.loads(Path(report).read_text())["log"]["entries"]
    known = {(verb, path) for _, verb, path in documented()}
    tried, good = set(), 0
    for entry in entries:
        operation = entry["request"]["method"], urlsplit(entry["request"]["url"]).path
        if operation in known:
            tried.add(operation)
        good += 200 <= entry["response"]["status"] < 300
    answered = {(e["request"]["method"], urlsplit(e["request"]["url"]).path)
                for e in entries if 200 <= e["response"]["status"] < 300}
    for operation in sorted(tried - answered):
        print("never answered with 2xx:", *operation)
    print(f"{len(entries)} requests, {good} answers of 2xx")
    return bool(tried) and tried <= answered


def refused(report):
    """The same for a run without a token: each operation that needs one has answered 401,
    and none of them 2xx."""
    needing = demanding()
    entries = json.loads(Path(report).read_text())["log"]["entries"]
    seen = {}
    for entry in entries:
        operation = entry["request"]["method"], urlsplit(entry["request"]["url"]).path
        seen.setdefault(operation, set()).add(entry["response"]["status"])
    wrong = [operation for operation in needing & seen.keys()
             if 401 not in seen[operation] or any(200 <= s < 300 for s in seen[operation])]
    for operation in sorted(wrong):
        print("a token is not demanded:", *operation)
    refusals = sum(entry["response"]["status"] == 401 for entry in entries)
    print(f"{len(entries)} requests without a token, {refusals} answers of 401")
    return bool(entries) and not wrong


def everything(reports):
    """Over all runs: each documented operation was answered with 2xx in one with a token,
    and each that needs a token with 401 in one without. An operation that was left out of
    every run is found here."""
    good, refusals = set(), set()
    for report in reports:
        for entry in json.loads(Path(report).read_text())["log"]["entries"]:
            operation = entry["request"]["method"], urlsplit(entry["request"]["url"]).path
            status = entry["response"]["status"]
            if Path(report).stem.endswith("-no-token"):
                refusals |= {operation} if status == 401 else set()
            else:
                good |= {operation} if 200 <= status < 300 else set()
    known = {(verb, path) for _, verb, path in documented()}
    for operation in sorted(known - good):
        print("in no run answered with 2xx:", *operation)
    for operation in sorted(demanding() - refusals):
        print("in no run without a token answered with 401:", *operation)
    print(f"operations: {len(known)} answered with 2xx, {len(demanding())} refused without a token")
    return bool(known) and known <= good and demanding() <= refusals


match sys.argv[1:]:
    case ["everything", *reports]:
        sys.exit(0 if everything(reports) else 1)
    case ["token", secret_file, user, use]:
        print(token(secret_file, user, use))
    case ["reached", report]:
        sys.exit(0 if reached(report) else 1)
    case ["refused", report]:
        sys.exit(0 if refused(report) else 1)
    case _:
        sys.exit(0 if routes() else 1)
