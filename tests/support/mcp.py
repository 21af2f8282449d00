"""Agents that ask: in memory, or over what carries them."""

import anyio
from mcp import Client

from embedstream.console.parts import Parts, Pipeline
from embedstream.console.watcher import Watcher
from embedstream.mcp.server import make_server
from embedstream.status.read import Observer


def parts_of(settings, observer=None, searcher=None):
    """One pipeline; what is not given is the real one."""
    pipeline = Pipeline(None, settings, Watcher(observer or Observer(settings, seconds=0)))
    pipeline._searcher = searcher
    return Parts(settings, {pipeline.name: pipeline})


def agent(parts, *, writes=False):
    """Calls tools of a server in memory."""
    return caller(make_server(parts, writes=writes))


def caller(target, mode="auto"):
    """Calls tools of a server, or of one that a transport leads to; the client checks answers by their schemas."""

    def call(tool, **arguments):
        return ask(target, lambda client: client.call_tool(tool, arguments), mode)

    return call


def ask(target, question, mode="auto"):
    async def run():
        async with Client(target, mode=mode) as client:
            return await question(client)

    return anyio.run(run)


def facts(answer):
    assert not answer.is_error, answer.content[0].text
    return answer.structured_content


def refusal(answer):
    assert answer.is_error
    assert answer.structured_content is None
    return answer.content[0].text
