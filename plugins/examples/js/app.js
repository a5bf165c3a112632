// A service in JavaScript: `GET /hello?name=`, `GET /health`, and `POST /token`, which
// says whose Bearer token it was given. `answer` decides; `handler` is what the host calls.

import { verify } from "lockgate:plugin/jwt@0.1.0";

// What the host says of a token -> error, code, status, words.
const REFUSED = {
    "invalid-token": ["invalid_token", "AUTH_005", 401, "The token is not valid"],
    "invalid-signature": ["invalid_signature", "AUTH_005", 401, "The token's signature is wrong"],
    expired: ["token_expired", "AUTH_003", 401, "The token has expired"],
    "no-secret": ["service_unavailable", "AUTH_004", 503, "No key is loaded"],
    denied: ["service_unavailable", "AUTH_004", 503, "The grants do not allow this"],
};
const MISSING = ["token_missing", "AUTH_001", 401, "No token was sent"];
const NOT_FOUND = ["invalid_request", "REQ_001", 404, "There is nothing at this path"];
const WRONG_VERB = ["invalid_request", "REQ_001", 405, "The method is not allowed at this path"];

// Greets by the name in the query.
function hello(request) {
    const name = new URLSearchParams(request.query ?? "").get("name");
    return asJson(200, { hello: name ?? "world" });
}

// Says that the service is up; `status` is what the host's probes look at.
function health() {
    const timestamp = new Date().toISOString();
    const head = { status: "healthy", service: "js-example-service", timestamp };
    return asJson(200, { ...head, dependencies: {}, degraded: false });
}

// Whose token it is. The host verifies it: no key is ever in here.
function token(request) {
    const given = bearer(request);
    if (given === undefined) return refused(MISSING);
    let claims;
    try {
        claims = verify(given, "access");
    } catch (error) {
        const row = REFUSED[error.payload];
        // What is not in the table is a fault of this plugin, not of the token.
        if (row === undefined) throw error;
        return refused(row);
    }
    const user = claims.userId ?? claims.id ?? claims.sub;
    return asJson(200, {
        valid: true,
        user_id: plain(user?.val) ?? null,
        email: claims.email ?? null,
        role: claims.role ?? null,
        expires_at: plain(claims.expiresAt) ?? null,
    });
}

const ROUTES = { "/hello": ["GET", hello], "/health": ["GET", health], "/token": ["POST", token] };

// Finds the route. A HEAD is a GET: the host leaves the body out.
export function answer(request) {
    if (!Object.hasOwn(ROUTES, request.path)) return refused(NOT_FOUND);
    const [verb, handle] = ROUTES[request.path];
    if (request.method !== verb && !(request.method === "HEAD" && verb === "GET")) {
        const response = refused(WRONG_VERB);
        response.headers.push(["allow", verb === "GET" ? "GET, HEAD" : verb]);
        return response;
    }
    return handle(request);
}

// The token of `Authorization: Bearer` (RFC 6750 section 2.1).
function bearer(request) {
    const value = request.headers.find(([name]) => name === "authorization")?.[1] ?? "";
    return /^bearer +(\S+)$/i.exec(value.trim())?.[1];
}

// JSON has no 64-bit integers.
function plain(value) {
    return typeof value === "bigint" ? Number(value) : value;
}

// The error object of every 4xx and 5xx.
function refused([error, code, status, words]) {
    const body = { detail: words, error, code, message: words, degraded: false };
    const response = asJson(status, body);
    if (status === 401) response.headers.push(["www-authenticate", "Bearer"]);
    return response;
}

// An answer that no cache keeps.
function asJson(status, body) {
    const headers = [
        ["content-type", "application/json"],
        ["cache-control", "no-store"],
        ["vary", "Cookie, Authorization"],
    ];
    return { status, headers, body: new TextEncoder().encode(`${JSON.stringify(body)}\n`) };
}

export const handler = { handle: answer };
