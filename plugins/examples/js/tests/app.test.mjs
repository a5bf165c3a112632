// Natively, without a host: `npm test`. What `app.js` imports of the host is a double.

import assert from "node:assert/strict";
import { register } from "node:module";
import test from "node:test";

const source = "export const verify = (...given) => globalThis.verify(...given);";
const double = `data:text/javascript,${encodeURIComponent(source)}`;
const hooks = `export const resolve = (name, context, next) => name.startsWith("lockgate:")
    ? { url: ${JSON.stringify(double)}, shortCircuit: true } : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
const { answer } = await import("../app.js");

function ask(method, path, query, headers = []) {
    const response = answer({ method, path, query, headers });
    const body = JSON.parse(new TextDecoder().decode(response.body));
    return { status: response.status, body, headers: Object.fromEntries(response.headers) };
}

test("it greets", () => {
    assert.deepEqual(ask("GET", "/hello").body, { hello: "world" });
    assert.deepEqual(ask("GET", "/hello", "name=Ada%20L").body, { hello: "Ada L" });
});

test("what is not there", () => {
    assert.equal(ask("GET", "/nothing").status, 404);
    assert.equal(ask("GET", "/constructor").status, 404);
    const { status, headers } = ask("POST", "/hello");
    assert.deepEqual([status, headers.allow], [405, "GET, HEAD"]);
});

test("tokens", () => {
    const bearer = [["authorization", "Bearer x"]];
    assert.equal(ask("POST", "/token").body.error, "token_missing");
    globalThis.verify = () => {
        throw Object.assign(new Error("expired"), { payload: "expired" });
    };
    const { status, body, headers } = ask("POST", "/token", undefined, bearer);
    assert.deepEqual([status, body.code], [401, "AUTH_003"]);
    assert.equal(headers["www-authenticate"], "Bearer");
    globalThis.verify = () => ({ id: { tag: "integer", val: 42n }, email: "ada@example.org" });
    assert.equal(ask("POST", "/token", undefined, bearer).body.user_id, 42);
});
