"""The pipeline file: what it gives, and one clear sentence, with its place, for what it cannot be."""

import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline_file
from embedstream.decode.spec import Decoding, Formats
from embedstream.errors import ConfigError
from embedstream.pipelines.expressions import Tools
from embedstream.pipelines.file import MOST_BYTES, load
from embedstream.pipelines.model import PipelineFile
from embedstream.pipelines.problem import BadFile
from embedstream.pipelines.variables import AS_WRITTEN

HEAD = "version: 1\npipelines:\n"
ONE = HEAD + "  a: {topic: t, table: u}\n"
ENVIRONMENT = {"REGISTRY": "http://registry:8081", "SLOTS": "4", "EMPTY": ""}


@pytest.fixture
def read(tmp_path):
    def read(text, tools=None):
        path = tmp_path / "embedstream.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, tools or Tools(), lambda name: ENVIRONMENT.get(name) or None)

    return read


@pytest.fixture
def problems(read, tmp_path):
    """The lines of a file's problems, without its name."""

    def problems(text, tools=None):
        with pytest.raises(BadFile) as caught:
            read(text, tools)
        return [line.removeprefix(f"{tmp_path}/embedstream.yaml:") for line in caught.value.lines()]

    return problems


def test_what_is_left_out_is_as_without_a_file(read):
    pipeline = read(ONE).pipelines["a"]
    assert pipeline.decoding.is_default
    assert (pipeline.job_name("a"), pipeline.group_id("a")) == ("embedstream-a", "embedstream-a")
    assert pipeline.dead_letter_topic("a") == "t-dead-letters"


def test_defaults_are_merged_deeply_and_lists_are_replaced(read):
    found = read(
        """
        version: 1
        defaults: {metadata: {lang: value.lang, kind: "'x'"}, text: [value.a, value.b], chunks: {tokens: 100}, job: j}
        pipelines:
          a: {topic: t, table: u, metadata: {lang: value.l}, text: [value.c], chunks: {overlap: 5}}
          b: {topic: s, table: v, metadata: null, chunks: null, job: k}
        """
    ).pipelines
    assert found["a"].metadata == {"lang": "value.l", "kind": "'x'"}
    assert (found["a"].text, found["a"].chunks.tokens, found["a"].chunks.overlap) == (("value.c",), 100, 5)
    assert (found["b"].metadata, found["b"].chunks, found["b"].text) == (None, None, ("value.a", "value.b"))


def test_what_defaults_have_wrong_is_said_once_where_it_stands(problems):
    text = "version: 1\ndefaults: {envelop: none}\npipelines:\n  a: {topic: t, table: u}\n  b: {topic: s, table: v}\n"
    assert problems(text) == ["2:12: defaults.envelop: there is no such key: did you mean envelope?"]


def test_anchors_and_merge_keys_are_taken(read):
    found = read(HEAD + "  a: &a {topic: t, table: u, source: value.s}\n  b: {<<: *a, topic: s, table: v}\n").pipelines
    assert (found["b"].topic, found["b"].table, found["b"].source) == ("s", "v", "value.s")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'${REGISTRY}'", "http://registry:8081"),
        ("${REGISTRY}/apis", "http://registry:8081/apis"),
        ("${NOT_SET:-http://x}", "http://x"),
        ("${EMPTY:-http://x}", "http://x"),
        ("http://a$$b$c", "http://a$b$c"),
    ],
)
def test_the_environment_s_values_are_filled_in(read, written, value):
    text = f"version: 1\ndefaults:\n  registry: {written}\npipelines:\n  a: {{topic: t, table: u}}\n"
    assert read(text).pipelines["a"].registry == value


def test_a_number_may_come_from_the_environment(read):
    assert read(HEAD + "  a:\n    topic: t\n    table: u\n    parallelism: ${SLOTS}\n").pipelines["a"].parallelism == 4


def test_expressions_and_tests_are_taken_as_written(read):
    text = """
    version: 1
    pipelines:
      a:
        topic: t
        table: u
        text: value."${NOT_SET}"
        metadata: {a: "'$${b}'"}
        chunks: {prefix: "'${'"}
        tests: [{value: {id: "${X}", text: "$$"}, expect: {id: "${X}"}}]
    """
    pipeline = read(text).pipelines["a"]
    assert (pipeline.text, pipeline.metadata) == ('value."${NOT_SET}"', {"a": "'$${b}'"})
    assert (pipeline.chunks.prefix, pipeline.tests[0].value) == ("'${'", {"id": "${X}", "text": "$$"})


def test_every_key_is_either_filled_in_or_taken_as_written():
    filled = {"format", "registry", "envelope", "placeholder", "chunks"}
    assert {name for name in Decoding.model_fields if name not in AS_WRITTEN} == filled


def pipeline(line):
    return HEAD + f"  a:\n    topic: t\n    table: u\n    {line}\n"


BAD = {
    "a key twice": (pipeline("topic: s"), ["6:5: pipelines.a: the key topic is here twice: the first is in line 4"]),
    "a pipeline twice": (
        HEAD + "  a: {topic: t, table: u}\n  a: {topic: s, table: v}\n",
        ["4:3: pipelines: the key a is here twice: the first is in line 3"],
    ),
    "an unknown key": (
        pipeline("metdata: {}"),
        ["6:5: pipelines.a.metdata: there is no such key: did you mean metadata?"],
    ),
    "an unknown key at the top": ("vershun: 1\n" + ONE, ["1:1: vershun: there is no such key: did you mean version?"]),
    "a password in the file": (
        pipeline("registry: {url: 'http://r', password: x}"),
        ["6:33: pipelines.a.registry.password: there is no such key: did you mean password_file?"],
    ),
    "a password in an address": (
        pipeline("registry: http://u:s3cret@r"),
        ["6:15: pipelines.a.registry: holds a user or a password: write user and password_file instead"],
    ),
    "a topic that YAML takes for false": (
        HEAD + "  a: {topic: no, table: u}\n",
        [
            ("3:14: pipelines.a.topic: is no, which YAML reads as false, but must be a string or a list: "
            'write it in quotes, "no"')
        ],
    ),
    "a topic that YAML takes for true": (
        HEAD + "  a: {topic: [on], table: u}\n",
        [
            ("3:15: pipelines.a.topic[0]: is on, which YAML reads as true, but must be a string: "
            'write it in quotes, "on"')
        ],
    ),
    "an octal table": (
        HEAD + "  a: {topic: t, table: 0123}\n",
        ['3:24: pipelines.a.table: is 0123, which YAML reads as 83, but must be a string: write it in quotes, "0123"'],
    ),
    "a float for an id": (
        pipeline("id: 1.50"),
        [
            ("6:9: pipelines.a.id: is 1.50, which YAML reads as 1.5, but must be a string or a list: "
            'write it in quotes, "1.50"')
        ],
    ),
    "a date": (
        pipeline("tests: [{value: {at: 2026-01-02}, expect: {}}]"),
        ['6:26: pipelines.a.tests[0].value.at: YAML reads 2026-01-02 as a date: write "2026-01-02"'],
    ),
    "a key that is no string": (
        pipeline("metadata: {no: value.no}"),
        ['6:16: pipelines.a.metadata: YAML does not read the key no as a string: write "no"'],
    ),
    "no number of JSON": (
        pipeline("tests: [{value: .nan, expect: {}}]"),
        ['6:21: pipelines.a.tests[0].value: is no number that JSON has: if it is a text, write ".nan"'],
    ),
    "a tag": (
        pipeline("text: !!python/object:os.system x"),
        ["6:11: pipelines.a.text: the tag !!python/object:os.system means nothing here: leave it out"],
    ),
    "a format that is none": (
        pipeline("format: avro"),
        [
            '6:13: pipelines.a.format: is "avro", but must be a map or json, text, registry, int32, int64 or uuid',
        ],
    ),
    "a format's key with a typo": (
        pipeline("format: {valu: registry}"),
        ["6:14: pipelines.a.format.valu: there is no such key: did you mean value?"],
    ),
    "a text of another shape": (
        pipeline("text: {from: value.a, as: markdown}"),
        ['6:31: pipelines.a.text.as: is "markdown", but must be plain or html'],
    ),
    "an empty list": (pipeline("text: []"), ["6:11: pipelines.a.text: is empty"]),
    "an empty expression": (pipeline("where: ''"), ["6:12: pipelines.a.where: is empty"]),
    "a map for metadata only": (
        pipeline("metadata: value"),
        ['6:15: pipelines.a.metadata: is "value", but must be a map or *'],
    ),
    "too little": (pipeline("parallelism: 0"), ["6:18: pipelines.a.parallelism: must be at least 1"]),
    "a missing table": (HEAD + "  a: {topic: t}\n", ["3:6: pipelines.a.table: is missing"]),
    "another version": ("version: 2\npipelines: {a: {topic: t, table: u}}", ["1:10: version: is 2, but must be 1"]),
    "no pipelines": ("version: 1\npipelines: {}", ["2:12: pipelines: is empty"]),
    "no version": ("pipelines: {a: {topic: t, table: u}}", ["1:1: version: is missing"]),
    "a list of pipelines": ("version: 1\npipelines: [a]", ["2:12: pipelines: is a list, but must be a map"]),
    "a pipeline with nothing in it": (HEAD + "  a:\n", ["3:5: pipelines.a: is empty, but must be a map"]),
    "a name with capitals": (
        HEAD + "  Articles: {topic: t, table: u}\n",
        [
            ("3:3: pipelines.Articles: is no pipeline's name: lower-case letters, digits, _ and -, at most 63, "
            "a letter or digit first")
        ],
    ),
    "a topic with spaces": (
        HEAD + "  a: {topic: a b, table: u}\n",
        ["3:14: pipelines.a.topic: is no topic's name: letters, digits, dots, _ and -, at most 249"],
    ),
    "a table with three parts": (
        HEAD + "  a: {topic: t, table: a.b.c}\n",
        ["3:24: pipelines.a.table: write table, or schema.table"],
    ),
    "an unknown placeholder": (
        pipeline("dead_letters: '{tpoic}-x'"),
        ["6:19: pipelines.a.dead_letters: {tpoic} means nothing here: there are {topic} and {name}"],
    ),
    "dead letters into the topic": (
        pipeline("dead_letters: '{topic}'"),
        ["6:19: pipelines.a.dead_letters: t is the pipeline's topic too: a dead letter would come round again"],
    ),
    "a variable that is not set": (
        pipeline("registry: ${NOT_SET}"),
        [
            "6:15: pipelines.a.registry: is no http:// or https:// URL with a host",
            "6:15: pipelines.a.registry: the environment has no NOT_SET: set it, or write ${NOT_SET:-default}",
        ],
    ),
    "half of a reference": (
        pipeline("job: ${not set"),
        ["6:10: pipelines.a.job: has ${ without a name and }: write ${NAME}, ${NAME:-default}, or $${"],
    ),
    "two expectations of one record": (
        pipeline("tests: [{expect: {delete: x, id: x}}]"),
        [
            ("6:22: pipelines.a.tests[0].expect: expects several things of one record: a message's fields, delete, "
            "filtered or rejected")
        ],
    ),
    "a time without a zone": (
        pipeline("tests: [{expect: {timestamp: '2026-01-02T03:04:05'}}]"),
        [
            ("6:34: pipelines.a.tests[0].expect.timestamp: the timestamp has no time zone: add Z, or an offset such as "
            "+02:00")
        ],
    ),
    "more overlap than chunk": (
        pipeline("chunks: {tokens: 100, overlap: 60}"),
        ["6:13: pipelines.a.chunks: overlap is more than half of tokens: chunks would hardly move on"],
    ),
    "a prefix and no room beside it": (
        pipeline("chunks: {tokens: 24, prefix: value.title}"),
        ["6:13: pipelines.a.chunks: tokens is less than 32: beside a prefix there is no room for text"],
    ),
    "no YAML": ("version: 1\n  a: b\n", ["2:4: mapping values are not allowed here"]),
    "an unclosed list": (
        "version: [1\n", ["2:1: expected ',' or ']', but got '<stream end>' (while parsing a flow sequence)"],
    ),
    "two documents": (
        "a: 1\n---\nb: 1\n", ["2:1: but found another document (expected a single document in the stream)"],
    ),
    "an unknown alias": ("version: *one\n", ["1:10: found undefined alias 'one'"]),
    "an alias of what it stands in": ("version: &a [*a]\n", ["1:10: an alias stands inside of what it names"]),
    "nothing": ("# nothing\n", ["1:1: the file is empty"]),
    "no map": ("hello\n", ["1:1: the file is to be a map with version and pipelines"]),
    "a bell": ("version: 1\na: \x07\n", ["2:4: the character U+0007 is not allowed in YAML"]),
    "UTF-16": ("version: 1".encode("utf-16"), ["1:1: this is not UTF-8"]),
    "half of a surrogate pair": (
        pipeline('text: "\\ud800"'),
        ["6:11: pipelines.a.text: has half of a surrogate pair: write the character itself"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_sentence_with_its_place(problems, case):
    text, lines = BAD[case]
    assert problems(text) == lines


def test_all_that_is_wrong_is_said_at_once_and_in_order(problems):
    found = problems(HEAD + "  b: {topic: no, tabel: u}\n  a: {topic: 0x10, table: on, where: 1}\n")
    assert [line.partition(" ")[0] for line in found] == ["3:6:", "3:14:", "3:18:", "4:14:", "4:27:", "4:38:"]


OWN = "give each pipeline a {} of its own"
TWO = HEAD + "  a: {{topic: t, table: u{}}}\n  b: {{topic: s, table: v{}}}\n"


@pytest.mark.parametrize(
    ("a", "b", "line"),
    [
        (", job: j", ", job: j", "4:32: pipelines.b.job: j is that of pipeline a too: " + OWN.format("job")),
        (", job: embedstream-b", "", "4:6: pipelines.b: embedstream-b is that of pipeline a too: " + OWN.format("job")),
        (", group: g", ", group: g", "4:34: pipelines.b.group: g is that of pipeline a too: " + OWN.format("group")),
        (
            ", dead_letters: d", ", dead_letters: d",
            ("4:41: pipelines.b.dead_letters: d is that of pipeline a too: "
            'write dead_letters: "{topic}-{name}-dead-letters" in one of them'),
        ),
    ],
)  # fmt: skip
def test_pipelines_share_nothing_of_what_each_has_alone(problems, a, b, line):
    assert problems(TWO.format(a, b)) == [line]


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [("u", "u", "u"), ("u", "public.u", "u"), ("u", "u_ledger", "u_ledger"), ("s.u", "s.u", "s.u")],
)
def test_tables_and_what_belongs_to_them_are_not_shared(problems, first, second, shared):
    text = HEAD + f"  a: {{topic: t, table: {first}}}\n  b: {{topic: s, table: {second}}}\n"
    assert problems(text) == [
        f"4:24: pipelines.b.table: {shared} is that of pipeline a too: give each pipeline a table of its own"
    ]


def test_the_documents_of_a_table_of_chunks_are_no_table_of_another_pipeline(problems, read):
    text = HEAD + "  a: {topic: t, table: u, chunks: {}}\n  b: {topic: s, table: u_documents}\n"
    assert "u_documents is that of pipeline a too" in problems(text)[0]
    assert read(text.replace("chunks: {}", "parallelism: 1")).pipelines.keys() == {"a", "b"}


def test_two_pipelines_may_read_one_topic(read):
    defaults = "version: 1\ndefaults: {dead_letters: '{name}-dead'}\n"
    text = defaults + "pipelines:\n  a: {topic: t, table: u}\n  b: {topic: t, table: v}\n"
    found = read(text).pipelines
    assert [found[name].dead_letter_topic(name) for name in found] == ["a-dead", "b-dead"]


class Typo(ConfigError):
    column = 7


def test_expressions_are_tried_and_their_column_is_that_of_the_file(problems):
    def tried(text, has_item):
        if "typo" in text or ("item" in text and not has_item):
            raise Typo("there is no typo()")

    text = HEAD + (
        "  a:\n    topic: t\n    table: u\n    text: [value.a, value.typo]\n    where: 'value.typo'\n"
        "    source: item.a\n    metadata: {x: value.typo}\n    timestamp: {from: value.typo}\n"
        "  b: {topic: s, table: v, each: value, source: item.a, chunks: {prefix: typo}}\n"
    )
    assert problems(text, Tools(tried)) == [
        "6:27: pipelines.a.text[1]: there is no typo()",
        "7:12: pipelines.a.where: there is no typo() (character 7)",
        "8:19: pipelines.a.source: there is no typo()",
        "9:25: pipelines.a.metadata.x: there is no typo()",
        "10:29: pipelines.a.timestamp.from: there is no typo()",
        "11:79: pipelines.b.chunks.prefix: there is no typo()",
    ]


def test_what_does_not_go_together_is_told_where_it_stands(problems):
    def build(decoding):
        raise type("Apart", (ConfigError,), {"path": ("metadata", "lang")})("lang does not go with that")

    assert problems(pipeline("metadata: {lang: value.l}"), Tools(build=build)) == [
        "6:22: pipelines.a.metadata.lang: lang does not go with that"
    ]


def test_a_file_that_is_too_large_or_not_there_is_one_sentence(read, tmp_path):
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        read("#" * (MOST_BYTES + 1))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
BOMBS = {
    "aliases of aliases": LAUGHS,
    "merged aliases": LAUGHS.replace("[x,x,x,x,x,x,x,x,x,x]", "{k: v}").replace("*", "<<: *").replace(": &", ": &"),
    "a million values": f"a: [{'x,' * 500_000}]",
    "deep lists": "[" * 100_000,
    "deep maps": "".join(f"{' ' * depth}a:\n" for depth in range(1000)),
    "a number of a megabyte": f"a: {'1:' * 500_000}1",
    "digits": "a: " + "9" * 1_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_soon(problems, bomb):
    began = time.process_time()
    assert len(problems(BOMBS[bomb])) >= 1
    assert time.process_time() - began < 20


KEYS = st.sampled_from(sorted(pipeline_file.keys()))
MARKS = st.sampled_from([
    ": ", ":", "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "<<: *a", "!!str ", "!!int ", "!x ",
    "'", '"', "1", "0x1", "no", "~", "a", "b", "${A}", "$", "${", "1:1", "2026-01-01", ".inf", "|\n", "? ", "%",
    "---\n", "\t", "#", "\x85", "\\ud800", "é",
])  # fmt: skip
WRITTEN = st.lists(KEYS | MARKS, max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=WRITTEN | st.text(max_size=200) | st.binary(max_size=100))
def test_any_text_gives_a_file_or_a_config_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "arbitrary.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with suppress(ConfigError):
        assert load(path, variable=lambda _: None).pipelines


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.sampled_from(["t", "", "*", "value.a", "${X}", "json"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def with_topic(body):
    return {"topic": "t", "table": "u", **body} if isinstance(body, dict) else body


@settings(max_examples=300, deadline=None)
@given(body=JSON, defaults=JSON)
def test_any_shape_of_a_pipeline_gives_a_file_or_places(tmp_path_factory, body, defaults):
    path = tmp_path_factory.getbasetemp() / "shapes.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "defaults": defaults, "pipelines": {"a": with_topic(body)}}))
    with suppress(BadFile):
        assert isinstance(load(path, variable=lambda _: None).pipelines["a"].formats, Formats)


def test_what_is_generated_from_the_models_is_current():
    page = pipeline_file.PAGE.read_text()
    assert pipeline_file.SCHEMA.read_text() == pipeline_file.schema_text(), "run `python tools/pipeline_file.py`"
    assert pipeline_file.rendered(page) == page, "run `python tools/pipeline_file.py`"
    assert all(f"<!-- {name} -->" in page for name in pipeline_file.MODELS)


def test_the_page_s_own_example_is_a_file(read):
    (example,) = [block.partition("```")[0] for block in pipeline_file.PAGE.read_text().split("```yaml\n")[1:]]
    assert set(read(example).pipelines) == {"messages", "articles"}


def test_every_key_says_what_it_is():
    described = [facts for model in pipeline_file.MODELS.values() for facts in model.model_fields.values()]
    assert all(field.description for field in described)
    assert set(json.loads(pipeline_file.SCHEMA.read_text())["properties"]) == set(PipelineFile.model_fields)


def test_an_editor_is_told_no_key_that_defaults_may_have_is_missing():
    schema = json.loads(Path(pipeline_file.SCHEMA).read_text())
    assert "required" not in schema["$defs"]["Pipeline"]
    assert schema["properties"]["defaults"]["$ref"] == "#/$defs/Pipeline"
