"""Servers that embed, as OpenAI, TEI and Ollama speak: by their published limits and errors, with vectors of a hash.

OpenAI: the API reference and the guide to rate limits, as of 2026. TEI: router/src/http of 1.9.3. Ollama:
server/routes.go of August 2026. Each can be given a `twist`: what it does instead of its duty.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import httpx
import numpy as np

KEY = "sk-a-secret-of-the-tests"
RESET, HANG = "reset", "hang"


class Reply(NamedTuple):
    status: int
    content: object
    headers: dict = {}  # noqa: RUF012 - never changed

    @property
    def body(self):
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()

    @property
    def all_headers(self):
        kind = "text/html" if isinstance(self.content, bytes) else "application/json"
        return {"Content-Type": kind, **self.headers}


def tokens_of(text):
    return -(-len(text.encode()) // 4)


def vector(text, dimension, seed=""):
    drawn = hashlib.shake_128(f"{seed}{text}".encode()).digest(2 * dimension)
    row = (np.frombuffer(drawn, "<i2") | 1).astype(np.float32)
    return row / np.linalg.norm(row)


class Bucket:
    """A minute's worth at most; it fills at the rate of the limit."""

    def __init__(self, per_minute, clock):
        self.limit = per_minute
        self.clock = clock
        self.level = float(per_minute)
        self.at = clock()

    def refill(self):
        now = self.clock()
        self.level = min(self.limit, self.level + (now - self.at) * self.limit / 60)
        self.at = now

    def reset(self):
        return (self.limit - self.level) * 60 / self.limit

    def seconds_until(self, amount):
        return max(0.0, (amount - self.level) * 60 / self.limit)


def go_duration(seconds):
    if seconds < 1:
        return f"{round(1000 * seconds)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"


class Server:
    """Base: counts, keeps what was embedded, and may be twisted. `seed` changes all vectors."""

    key = None

    def __init__(self, dimension=8, clock=time.monotonic):
        self.dimension = dimension
        self.clock = clock
        self.seed = ""
        self.twist = None
        self.requests = 0
        self.refused = 0
        self.embedded = []
        self.sizes = []
        self.lock = threading.Lock()

    def handle(self, method, path, headers, body):
        with self.lock:
            asked = json.loads(body) if body else None
            if self.key and not self.may(headers):
                return self.unauthorized()
            if self.is_embedding(method, path):
                self.requests += 1
                if self.twist and (reply := self.twist(self.texts_of(asked))) is not None:
                    return reply
            return self.answer(method, path, asked)

    def may(self, headers):
        return headers.get("authorization") == f"Bearer {self.key}"

    def rows(self, texts):
        self.embedded += texts
        self.sizes.append(len(texts))
        return [vector(text, self.dimension, self.seed) for text in texts]


class OpenAi(Server):
    """`tokens` and `requests_a_minute` are None where nothing is limited, and no header says so."""

    key = KEY

    def __init__(self, model="text-embedding-3-small", *, tokens=None, requests=None, most_tokens=8192, **facts):
        super().__init__(**facts)
        self.model = model
        self.most_tokens = most_tokens
        limits = {"requests": requests, "tokens": tokens}
        self.buckets = {kind: Bucket(limit, self.clock) for kind, limit in limits.items() if limit}

    def is_embedding(self, method, path):
        return method == "POST" and path.startswith("/v1/embeddings")

    def texts_of(self, asked):
        return [asked["input"]] if isinstance(asked["input"], str) else asked["input"]

    def unauthorized(self):
        return self.error(401, "Incorrect API key provided: sk-a-****ests.", "invalid_request_error", "invalid_api_key")

    def error(self, status, message, kind, code=None, headers=None):
        return Reply(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers or {})

    def answer(self, method, path, asked):
        if method == "GET" and path == "/v1/models":
            return Reply(200, {"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": "system"}]})
        if not self.is_embedding(method, path):
            return self.error(404, f"Invalid URL ({method} {path})", "invalid_request_error")
        if asked["model"] != self.model:
            message = f"The model `{asked['model']}` does not exist or you do not have access to it."
            return self.error(404, message, "invalid_request_error", "model_not_found")
        return self.refusal(asked) or self.limited(asked) or self.vectors(asked)

    def refusal(self, asked):
        if asked.get("encoding_format") not in ("float", "base64"):
            return self.error(400, "encoding_format is neither float nor base64", "invalid_request_error")
        texts = self.texts_of(asked)
        counts = [tokens_of(text) for text in texts]
        if len(texts) > 2048:
            return self.error(400, "'$.input' is invalid: at most 2048 inputs", "invalid_request_error")
        if any(not text for text in texts):
            return self.error(400, "'$.input' is invalid.", "invalid_request_error")
        if max(counts) > self.most_tokens:
            message = (
                f"This model's maximum context length is {self.most_tokens} tokens, however you requested "
                f"{max(counts)} tokens ({max(counts)} in your prompt; 0 for the completion). Please reduce your "
                "prompt; or completion length."
            )
            return self.error(400, message, "invalid_request_error")
        if sum(counts) > 300_000:
            message = f"Requested {sum(counts)} tokens, max 300000 tokens per request"
            return self.error(400, message, "max_tokens_per_request", "max_tokens_per_request")
        return None

    def limited(self, asked):
        wanted = {"requests": 1, "tokens": sum(map(tokens_of, self.texts_of(asked)))}
        for bucket in self.buckets.values():
            bucket.refill()
        waits = {kind: bucket.seconds_until(wanted[kind]) for kind, bucket in self.buckets.items()}
        kind = max(waits, key=waits.get, default=None)
        if kind and waits[kind] > 0:
            self.refused += 1
            short = {"tokens": "tokens per min (TPM)", "requests": "requests per min (RPM)"}[kind]
            message = (
                f"Rate limit reached for {self.model} in organization org-0 on {short}: "
                f"Limit {self.buckets[kind].limit}. Please try again in {go_duration(waits[kind])}."
            )
            told = {"retry-after-ms": f"{1000 * waits[kind]:.0f}", "retry-after": f"{-(-waits[kind] // 1):.0f}"}
            return self.error(429, message, kind, "rate_limit_exceeded", {**self.standing(), **told})
        for name, bucket in self.buckets.items():
            bucket.level -= wanted[name]
        return None

    def standing(self):
        return {
            name: value
            for kind, bucket in self.buckets.items()
            for name, value in {
                f"x-ratelimit-limit-{kind}": str(bucket.limit),
                f"x-ratelimit-remaining-{kind}": str(max(0, int(bucket.level))),
                f"x-ratelimit-reset-{kind}": go_duration(bucket.reset()),
            }.items()
        }

    def vectors(self, asked):
        texts = self.texts_of(asked)
        rows = [self.form(row, asked) for row in self.rows(texts)]
        tokens = sum(map(tokens_of, texts))
        data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"object": "list", "data": data, "model": self.model, "usage": usage}
        return Reply(200, answer, self.standing())

    @staticmethod
    def form(row, asked):
        if asked["encoding_format"] == "base64":
            return base64.b64encode(row.astype("<f4").tobytes()).decode()
        return row.tolist()

    def out_of_quota(self):
        message = "You exceeded your current quota, please check your plan and billing details."
        return self.error(429, message, "insufficient_quota", "insufficient_quota")


class Azure(OpenAi):
    """The same at a deployment's path, with the key in `api-key`."""

    def is_embedding(self, method, path):
        return method == "POST" and path == f"/openai/deployments/{self.model}/embeddings?api-version=2024-10-21"

    def may(self, headers):
        return headers.get("api-key") == self.key


class Tei(Server):
    """`/v1/embeddings` is there, too, and cuts: nobody is to ask it."""

    def __init__(self, model="BAAI/bge-small-en-v1.5", sha="5c38ec7c405ec4b44b94cc5a9bb96e735b38267a", **facts):
        super().__init__(**facts)
        self.model, self.sha = model, sha
        self.most_tokens, self.most_texts = 512, 32

    def is_embedding(self, method, path):
        return method == "POST" and path == "/embed"

    def texts_of(self, asked):
        return asked["inputs"]

    def answer(self, method, path, asked):
        if method == "GET" and path == "/info":
            return Reply(
                200,
                {
                    "model_id": self.model, "model_sha": self.sha, "model_dtype": "float32",
                    "served_model_name": self.model, "model_type": {"embedding": {"pooling": "cls"}},
                    "max_concurrent_requests": 512, "max_input_length": self.most_tokens, "max_batch_tokens": 16384,
                    "max_batch_requests": None, "max_client_batch_size": self.most_texts, "auto_truncate": True,
                    "tokenization_workers": 2, "version": "1.9.3", "sha": None, "docker_label": None,
                },
            )  # fmt: skip
        if not self.is_embedding(method, path):
            return Reply(404, b"")
        texts = asked["inputs"]
        if len(texts) > self.most_texts:
            return self.invalid(f"batch size {len(texts)} > maximum allowed batch size {self.most_texts}")
        longest = max(map(tokens_of, texts))
        if longest > self.most_tokens and not asked.get("truncate", True):
            return self.invalid(
                f"Input validation error: `inputs` must have less than {self.most_tokens} tokens. Given: {longest}"
            )
        headers = {"x-compute-tokens": str(sum(map(tokens_of, texts)))}
        return Reply(200, [row.tolist() for row in self.rows(texts)], headers)

    def invalid(self, message):
        return Reply(422, {"error": message, "error_type": "Validation"})


class Ollama(Server):
    def __init__(
        self,
        model="nomic-embed-text",
        digest="0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f",
        **facts,
    ):
        super().__init__(**facts)
        self.model, self.digest = model, digest
        self.most_tokens = 2048

    def is_embedding(self, method, path):
        return method == "POST" and path == "/api/embed"

    def texts_of(self, asked):
        return asked["input"]

    def answer(self, method, path, asked):
        if method == "GET" and path == "/api/tags":
            name = f"{self.model}:latest"
            return Reply(200, {"models": [{"name": name, "model": name, "size": 274302450, "digest": self.digest}]})
        if method == "POST" and path == "/api/show":
            info = {"general.architecture": "nomic-bert", "nomic-bert.context_length": self.most_tokens}
            return Reply(200, {"details": {"family": "nomic-bert"}, "model_info": info})
        if not self.is_embedding(method, path):
            return Reply(404, b"404 page not found")
        if asked["model"] not in (self.model, f"{self.model}:latest"):
            return Reply(404, {"error": f"model '{asked['model']}' not found"})
        texts = asked["input"]
        if asked.get("truncate", True) is False and max(map(tokens_of, texts)) > self.most_tokens:
            return Reply(400, {"error": "the input length exceeds the context length"})
        rows = [row.tolist() for row in self.rows(texts)]
        counted = sum(map(tokens_of, texts))
        return Reply(200, {"model": asked["model"], "embeddings": rows, "prompt_eval_count": counted})


def transport(server):
    """The server without a socket."""

    def handle(request):
        reply = server.handle(request.method, request.url.raw_path.decode(), request.headers, request.content)
        if reply == RESET:
            raise httpx.ReadError("reset", request=request)
        if reply == HANG:
            raise httpx.ReadTimeout("hang", request=request)
        return httpx.Response(reply.status, headers=reply.all_headers, content=reply.body)

    return httpx.MockTransport(handle)


@contextmanager
def served(server):
    """The server's address on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.do_POST()

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.handle(self.command, self.path, headers, body)
            if reply == HANG:
                stopped.wait(60)
            if reply in (RESET, HANG):
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in {**reply.all_headers, "Content-Length": str(len(reply.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

    stopped = threading.Event()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        stopped.set()
        listening.shutdown()
        listening.server_close()
