"""A stand-in for the part of W&B's server that sweeps need: it stores a sweep and gives its grid to agents, run by run.

It answers the GraphQL requests of `wandb sweep` and `wandb agent` (wandb 0.31) with what they read of the answers, and
keeps the requests that it does not know. It does not check a sweep's configuration, as W&B's server does.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import yaml

PROJECT = {"id": "1", "name": "tests", "entity": {"id": "2", "name": "nobody"}}


class SweepServer:
    """State of one sweep."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.started: dict[str, dict[str, Any]] = {}  # run -> its parameters
        self.unknown: list[str] = []
        self._waiting: Iterator[dict[str, Any]] = iter(())
        self.url = ""

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        if "upsertSweep" in query:
            self.config = yaml.safe_load(given["config"])
            names = sorted(self.config["parameters"])
            values = [self.config["parameters"][name]["values"] for name in names]
            self._waiting = (dict(zip(names, point, strict=True)) for point in itertools.product(*values))
            return {"upsertSweep": {"sweep": {"name": "s1", "project": PROJECT}, "configValidationWarnings": []}}
        if "SweepWithRuns" in query:
            sweep = {"id": "3", "name": "s1", "config": yaml.safe_dump(self.config), "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if "createAgent" in query:
            return {"createAgent": {"agent": {"id": "4"}}}
        if "agentHeartbeat" in query:
            commands = [] if json.loads(given["runState"]) else [self._command()]  # one run at a time
            return {"agentHeartbeat": {"agent": {"id": "4"}, "commands": json.dumps(commands)}}
        if "viewer" in query:
            return {"viewer": {"id": "2", "entity": "nobody", "username": "nobody", "teams": {"edges": []}}}
        self.unknown.append(query)
        return {}

    def _command(self) -> dict[str, Any]:
        point = next(self._waiting, None)
        if point is None:
            return {"type": "exit"}
        run = f"run{len(self.started)}"
        self.started[run] = point
        args = {name: {"value": value} for name, value in point.items()}
        return {"type": "run", "run_id": run, "args": args, "program": self.config.get("program", "")}


@contextmanager
def sweep_server() -> Iterator[SweepServer]:
    state = SweepServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps({"data": state.answer(request["query"], request.get("variables") or {})}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
