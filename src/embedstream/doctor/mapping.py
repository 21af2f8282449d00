"""Whether a pipeline's mapping can be carried out, and what it makes of the topic's latest records."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from embedstream import store
from embedstream.doctor import registry
from embedstream.doctor.check import Check, Verdict, fail, ok, warn
from embedstream.doctor.registry import decoding_of
from embedstream.pipelines.trying import latest, tried

if TYPE_CHECKING:
    from embedstream.doctor.world import World

_SAMPLE = 50


def _decoder(world: World) -> Verdict:
    _ = world.decode  # it raises what keeps it from being made
    decoding = decoding_of(world)
    return ok(f"mapping {decoding.mapping_hash} reads {decoding.formats.value}, envelope {decoding.envelope}")


def _deletes(world: World) -> Verdict:
    from embedstream.decode.plan import ids_need_value  # noqa: PLC0415 - of the extra `decode`

    if needing := ids_need_value(decoding_of(world)):
        return warn(
            f"the id needs more than the key ({', '.join(needing)}): a record with a null value deletes nothing",
            "take id from key, or have deletes sent as values that `delete` recognises",
        )
    return ok("a record with a null value deletes the id in its key")


def _sample(world: World) -> Verdict:
    found = [tried(record, world.decode) for record in latest(world.settings, _SAMPLE)]
    if not found:
        return ok(f"topic {world.settings.kafka_input_topic} has no record yet")
    reasons = [each["rejected"]["reason"] for each in found if "rejected" in each]
    filtered = sum("filtered" in each for each in found)
    if not reasons:
        left_out = f", {filtered} of them filtered" if filtered else ""
        return ok(f"the latest {len(found)} records can be read{left_out}")
    (reason, _), *_ = Counter(reasons).most_common(1)
    fact = f"{len(reasons)} of the latest {len(found)} records would be dead letters, most because {reason}"
    remedy = "embedstream pipelines try shows them beside what they become"
    return fail(fact, remedy) if len(reasons) == len(found) else warn(fact, remedy)


def _table(world: World) -> Verdict:
    """Jobs write down what they read with when they begin."""
    terms = store.read_terms(world.connection, world.settings)
    ours = decoding_of(world).mapping_hash
    if terms is None or not terms.has_begun:
        return ok("no job has written the table yet")
    if terms.mapping != ours:
        return warn(
            f"the table was last written with another mapping ({terms.mapping or 'none'}) than this ({ours})",
            "embedstream pipelines apply starts the job with it, and with --replay reads the topic again",
        )
    older = sum(each.mapped_from > 0 for each in store.read_progress(world.connection, world.settings).values())
    if older:
        return warn(
            f"in {older} partitions records from before the mapping changed were read with another one",
            "embedstream pipelines apply --replay reads the topic again",
        )
    return ok(f"all of the table was written with mapping {ours}")


CHECKS = (
    Check("mapping.decoder", _decoder),
    *registry.CHECKS,
    Check("mapping.deletes", _deletes, ("mapping.decoder",)),
    Check("mapping.sample", _sample, ("mapping.registry", "broker.reachable")),
    Check("mapping.table", _table, ("mapping.decoder", "database.table")),
)
