"""The engine against others on the same model and texts, each as its own documentation would run it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peak import gflop, peak_gflops
from benchmarks.peers.process import ENGINES, Peer, PeerFailed, running_peer
from benchmarks.plan import Contender, Figures, Measure, Plan, Skipped
from benchmarks.raw import RawEngine
from embedstream.service.engine.model import find_model
from embedstream.service.engine.tokens import TextTokenizer
from embedstream.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

TITLE = "Engine: texts a second, same model, same texts"
FIGURE = "texts_per_second"
BASELINE = "sentence-transformers"

PEERS = {
    BASELINE: ("sentence_transformers_encode.py", ENGINES),
    f"{BASELINE} with OpenVINO": ("sentence_transformers_openvino.py", "openvino"),
    "ONNX Runtime": ("onnx_runtime.py", ENGINES),
    "fastembed": ("fastembed_embed.py", ENGINES),
}


def contenders(plan: Plan) -> Iterator[Contender | Skipped]:
    run = _Run(plan)
    for name, (script, environment) in PEERS.items():
        try:
            peer = plan.closing.enter_context(running_peer(name, script, plan.directory, environment))
        except PeerFailed as exc:
            yield Skipped(name, str(exc))
        else:
            yield Contender(name, run.peer(peer), peer.versions)
    yield Contender("embedstream", run.embedstream)
    yield Contender("f32 matrix product", run.peak)
    yield Skipped("sentence-transformers' ONNX back end", "optimum-onnx 0.1 and sentence-transformers 6.2 conflict")


class _Run:
    """Shares texts, vectors and the machine's peak among the contenders of a round.

    The peak is measured anew in each round; the first one needs an estimate.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._engine = RawEngine()
        model = find_model(load_settings().embedding_model)
        self._config = json.loads((model.directory / "config.json").read_text(encoding="utf-8"))
        self._tokenizer = TextTokenizer(model)
        self._reference: dict[int, Vectors] = {}
        self._peak = peak_gflops()

    def _texts(self, number: int) -> list[str]:
        return self._plan.texts(number, self._plan.count(number, 1000, 100))

    def peer(self, peer: Peer) -> Measure:
        def measure(number: int) -> Figures:
            texts = self._texts(number)
            seconds, vectors = peer.embed(texts)
            return self._figures(number, texts, len(texts) / seconds, vectors, is_reference=peer.name == BASELINE)

        return measure

    def embedstream(self, number: int) -> Figures:
        texts = self._texts(number)
        rate = self._engine.texts_per_second(texts)
        return self._figures(number, texts, rate, self._engine.embed(texts).vectors)

    def peak(self, _: int) -> Figures:
        self._peak = peak_gflops()
        return {"gflops": self._peak}

    def _figures(
        self, number: int, texts: Sequence[str], rate: float, vectors: Vectors, *, is_reference: bool = False
    ) -> Figures:
        tokens = [len(one.ids) for one in self._tokenizer(texts)]
        gflops = gflop(self._config, tokens) * rate / len(texts)
        figures = {
            FIGURE: rate,
            "tokens_per_second": rate * sum(tokens) / len(texts),
            "gflops": gflops,
            "share_of_peak": gflops / self._peak,
        }
        if is_reference:
            self._reference = {number: vectors}
        elif number in self._reference:
            cosines = (unit(vectors) * unit(self._reference[number])).sum(1)
            figures |= {"cosine_min": float(cosines.min()), "cosine_mean": float(cosines.mean())}
        return figures


def unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Rows of length one, in float64, so that a cosine is exact to its last digits."""
    rows = vectors.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows
