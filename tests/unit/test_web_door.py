import asyncio
import gzip
import threading
from concurrent.futures import Future

import httpx
import pytest
from flask import Flask, request

from embedstream.web.door import REFUSAL, WAITING, Door


def echo(gate=None):
    app = Flask(__name__)

    @app.route("/", methods=["GET", "POST"], defaults={"path": ""})
    @app.route("/<path:path>", methods=["GET", "POST"])
    def answer(path):
        if problem := request.environ.get(REFUSAL):
            return {"code": problem.code}, problem.status
        if gate:
            assert gate.wait(20)
        return {
            "path": path,
            "query": request.query_string.decode(),
            "body": request.get_data().decode(),
            "length": request.content_length,
            "type": request.content_type,
            "headers": request.headers.getlist("X-Mine"),
        }

    return app


def door(app=None, **options):
    options = {"threads": 4, "read_seconds": 5.0, "max_body": 100, "max_held": 250, **options}
    return Door(app or echo(), **options)


def ask(door, *requests):
    async def all_of_them():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://door") as client:
            return await asyncio.gather(*(client.request(**{"method": "POST", **request}) for request in requests))

    return asyncio.run(all_of_them())


def test_a_request_arrives_as_it_was_sent():
    headers = [("X-Mine", "a"), ("x-mine", "b"), ("X_Mine", "not this one"), ("Content-Type", "text/x")]
    [answer] = ask(door(), {"url": "/n%C3%A4ive/%2F?q=%C3%A4&r", "content": "body 🎉", "headers": headers})
    assert answer.json() == {
        "path": "näive//",
        "query": "q=%C3%A4&r",
        "body": "body 🎉",
        "length": 9,
        "type": "text/x",
        "headers": ["a,b"],
    }


def test_of_a_body_too_large_the_application_knows_the_length():
    app = echo()
    app.config["MAX_CONTENT_LENGTH"] = 100
    answers = ask(
        door(app), {"url": "/", "content": "x" * 101}, {"url": "/", "content": dribbled(b"x" * 50, b"x" * 51)}
    )
    assert [answer.status_code for answer in answers] == [413, 413]


def gzipped(content, **headers):
    return {"url": "/", "content": content, "headers": {"Content-Encoding": "gzip", **headers}}


def test_gzip_is_decoded():
    two = gzip.compress(b"one, ") + gzip.compress("two 🎉".encode())
    named_otherwise = gzipped(gzip.compress(b"old"), **{"Content-Encoding": "X-GZIP"})
    pieces = gzipped(dribbled(*(two[place : place + 1] for place in range(len(two)))))
    answers = ask(door(), gzipped(two), pieces, gzipped(gzip.compress(b"")), named_otherwise)
    seen = [(answer.json()["body"], answer.json()["length"]) for answer in answers]
    assert seen == [("one, two 🎉", 13), ("one, two 🎉", 13), ("", 0), ("old", 3)]


def test_gzip_is_bounded_by_what_it_decodes_to():
    app = echo()
    app.config["MAX_CONTENT_LENGTH"] = 100
    kept = door(app)
    bomb = gzip.compress(b"\x00" * 50_000_000)
    most, more = gzip.compress(b"x" * 100), gzip.compress(b"x" * 101)
    in_members = gzipped(gzip.compress(b"x" * 60) * 1000)
    answers = ask(kept, gzipped(most), gzipped(more), gzipped(bomb), in_members)
    assert [answer.status_code for answer in answers] == [200, 413, 413, 413]
    assert kept._held == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"plain", gzip.compress(b"x" * 50)[:-3], gzip.compress(b"x") + b"more"],
    ids=["nothing", "plain", "cut", "more"],  # gzip writes the time into what it makes
)
def test_what_is_no_gzip_is_refused(content):
    [answer] = ask(door(), gzipped(content))
    assert (answer.status_code, answer.json()) == (400, {"code": "not_gzip"})


def test_other_encodings_are_the_application_s_to_refuse():
    [answer] = ask(door(), gzipped(b"plain", **{"Content-Encoding": "br"}))
    assert answer.json()["body"] == "plain"


async def dribbled(*pieces, seconds=0.0):
    for piece in pieces:
        await asyncio.sleep(seconds)
        yield piece


def test_pieces_make_a_body():
    [answer] = ask(door(), {"url": "/", "content": dribbled(b"a", b"", b"bc")})
    assert (answer.json()["body"], answer.json()["length"]) == ("abc", 3)


def test_who_is_too_slow_is_told_and_hung_up_on():
    slow = [{"url": "/", "content": dribbled(*[b"x"] * 50, seconds=0.1)} for _ in range(5)]
    answers = ask(door(threads=1, read_seconds=0.5), *slow, {"url": "/", "content": "quick"})
    assert [answer.status_code for answer in answers] == [408] * 5 + [200]
    assert answers[0].headers["Connection"] == "close"
    assert answers[0].json() == {"code": "request_timeout"}


def test_there_is_memory_for_so_many_bodies():
    gate = threading.Event()
    kept = door(echo(gate))
    threading.Timer(1.0, gate.set).start()
    answers = ask(kept, *[{"url": "/", "content": "x" * 100}] * 3)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429]
    assert kept._held == 0
    assert ask(kept, {"url": "/", "content": "x" * 100})[0].is_success


def test_who_hangs_up_while_sending_leaves_nothing():
    async def hang_up():
        messages = iter([{"type": "http.request", "body": b"x" * 50, "more_body": True}, {"type": "http.disconnect"}])
        sent = []

        async def receive():
            return next(messages)

        async def send(message):
            sent.append(message)

        scope = {
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "http_version": "1.1",
            "scheme": "http",
            "headers": [],
        }
        await kept(scope, receive, send)
        return sent

    kept = door()
    sent = asyncio.run(hang_up())
    assert (sent[0]["status"], b"request_torn" in sent[1]["body"]) == (400, True)
    assert kept._held == 0


def patient(future):
    """An application that waits for a number, and has one thread at the door."""
    app = Flask(__name__)

    @app.post("/")
    def answer():
        waiting = request.environ[WAITING]
        if waiting.future:
            return {"asked": waiting.asked, "number": waiting.future.result(), "read": len(request.get_data())}
        waiting.future, waiting.asked = future, request.get_data().decode()
        return "nobody sees this", 202

    return app


def test_who_waits_for_the_application_has_no_thread():
    future = Future()
    kept = door(patient(future), threads=1, max_held=5000)
    threading.Timer(0.5, future.set_result, [7]).start()
    answers = ask(kept, *[{"url": "/", "content": f"request {number}"} for number in range(100)])
    assert [answer.json() for answer in answers] == [
        {"asked": f"request {number}", "number": 7, "read": 0} for number in range(100)
    ]
    assert kept._held == 0


def test_what_fails_while_it_is_waited_for_is_the_application_s_to_tell():
    future = Future()
    threading.Timer(0.2, future.set_result, [7]).start()
    app = patient(future)
    app.errorhandler(ArithmeticError)(lambda _: ({"code": "engine_failed"}, 500))
    app.before_request(lambda: 1 / 0 if request.environ[WAITING].future else None)
    [answer] = ask(door(app), {"url": "/", "content": "x"})
    assert (answer.status_code, answer.json()) == (500, {"code": "engine_failed"})


@pytest.mark.parametrize("seconds", [0.2, 20.0])
def test_the_end_waits_for_answers(seconds):
    gate = threading.Event()
    kept = door(echo(gate))
    asking = threading.Thread(target=ask, args=(kept, {"url": "/", "content": "x"}))
    asking.start()
    while not kept._answering:
        pass
    threading.Timer(0.5, gate.set).start()
    kept.wait_until_answered(seconds)
    assert bool(kept._answering) == (seconds < 0.5)
    asking.join()
