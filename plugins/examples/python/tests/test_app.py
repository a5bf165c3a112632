"""Natively, without a host: `.venv/bin/componentize-py -d wit -w service bindings bindings`
makes what `app` imports; then `PYTHONPATH=.:bindings python3 -m unittest discover tests`.
"""

import json
import unittest
from unittest.mock import patch

import app
from componentize_py_types import Err
from wit_world.imports.types import Caller, Origin, Request


def ask(method, path, query=None, headers=()):
    """Status, body and headers of one answer."""
    caller = Caller("127.0.0.1", Origin.ABSENT, False)
    request = Request(method, path, query, list(headers), b"", caller, [])
    response = app.answer(request)
    return response.status, json.loads(response.body), dict(response.headers)


class Answers(unittest.TestCase):
    def test_it_greets(self):
        self.assertEqual(ask("GET", "/hello")[:2], (200, {"hello": "world"}))
        body = ask("GET", "/hello", "name=Ada%20L")[1]
        self.assertEqual(body, {"hello": "Ada L"})

    def test_what_is_not_there(self):
        self.assertEqual(ask("GET", "/nothing")[0], 404)
        status, _, headers = ask("POST", "/hello")
        self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"))

    def test_a_refused_token(self):
        bearer = [("authorization", "Bearer x")]
        self.assertEqual(ask("POST", "/token")[1]["error"], "token_missing")
        with patch("app.jwt.verify", side_effect=Err(app.jwt.Error.EXPIRED)):
            status, body, headers = ask("POST", "/token", headers=bearer)
        self.assertEqual((status, body["code"]), (401, "AUTH_003"))
        self.assertEqual(headers["www-authenticate"], "Bearer")
