"""Tokenizers to cut texts with."""

from pathlib import Path

from embedstream.service.engine.fake import HashEngine
from embedstream.service.engine.model import find_model
from embedstream.service.engine.tokens import TextTokenizer
from support.service import MINILM
from support.tiny import MODELS


def described(model: str | Path = MINILM):
    return TextTokenizer(find_model(str(model))).described


def tiny(name):
    return described(MODELS / name)


def words(max_tokens=256):
    """One token a word."""
    return HashEngine(4, max_tokens=max_tokens).tokenizer
