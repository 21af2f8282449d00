import hashlib
import io
import tarfile

import pytest

from embedstream import jars
from embedstream.errors import ConfigError
from embedstream.jars import Jar, download, parse_lock
from embedstream.settings import load_settings

CONTENT = b"a jar"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


def resolver_that_writes(content):
    def fetch(jar, directory):
        directory.mkdir(parents=True)
        path = directory / "downloaded.jar"
        path.write_bytes(content)
        return path

    return fetch


def test_the_lock_has_the_broker_and_the_connector():
    kafka = {jar.artifact: jar for jar in jars.locked_jars("kafka")}
    assert kafka["kafka_2.13"].version == kafka["kafka-tools"].version
    assert kafka["log4j-slf4j-impl"].version == kafka["log4j-core"].version
    flink = {jar.artifact: jar for jar in jars.locked_jars("flink")}
    assert flink.keys() >= {"flink-sql-connector-kafka", "zstd-jni"}
    assert flink["jackson-databind"] == kafka["jackson-databind"]
    assert flink["zstd-jni"] == kafka["zstd-jni"]


@pytest.mark.parametrize("section", jars.SECTIONS)
def test_the_lock_is_sorted_and_has_each_jar_once(section):
    locked = jars.locked_jars(section)
    assert [str(jar) for jar in locked] == sorted(str(jar) for jar in locked)
    assert len({(jar.group, jar.artifact) for jar in locked}) == len(locked)


def test_parsing_divides_sections_and_skips_comments():
    text = f"# made by\n\n[kafka]\n{JAR} {JAR.sha256}\n\n[flink]\n"
    assert parse_lock(text) == {"kafka": [JAR], "flink": []}


@pytest.mark.parametrize(
    "line", ["org.example:thing 1.0", f"org.example:thing:1.0 {'0' * 63}", "org.example:thing:1.0"]
)
def test_a_line_that_is_no_jar_is_named(line):
    with pytest.raises(ConfigError, match="line 2"):
        parse_lock(f"[kafka]\n{line}\n")


def test_a_download_is_in_the_cache_and_not_missing_any_more(tmp_path):
    download([JAR], tmp_path, resolver_that_writes(CONTENT))
    assert JAR.path(tmp_path).read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == [JAR.group]


def test_a_wrong_hash_is_refused_and_names_the_jar(tmp_path):
    with pytest.raises(ConfigError, match=r"org\.example:thing:1\.0"):
        download([JAR], tmp_path, resolver_that_writes(b"another jar"))
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing_and_is_tried_again(tmp_path):
    attempts = []

    def fetch(jar, directory):
        attempts.append(directory)
        if len(attempts) < jars.ATTEMPTS:
            resolver_that_writes(CONTENT[:2])(jar, directory)
            raise OSError("connection reset")
        return resolver_that_writes(CONTENT)(jar, directory)

    download([JAR], tmp_path, fetch)
    assert JAR.path(tmp_path).read_bytes() == CONTENT
    assert len(set(attempts)) == jars.ATTEMPTS


def test_a_jar_that_cannot_be_had_is_named(tmp_path):
    def fetch(jar, directory):
        raise RuntimeError("not found")

    with pytest.raises(ConfigError, match=r"org\.example:thing:1\.0 cannot be downloaded: not found"):
        download([JAR], tmp_path, fetch)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_jar_in_the_cache_counts_as_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(jars, "locked_jars", lambda section: [JAR])
    download([JAR], tmp_path, resolver_that_writes(CONTENT))
    assert jars.missing_jars("kafka", tmp_path) == []
    JAR.path(tmp_path).write_bytes(CONTENT[:2])
    assert jars.missing_jars("kafka", tmp_path) == [JAR]


def test_an_archive_is_kept_unpacked_under_its_name_when_all_of_it_is_there(tmp_path, monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as files:
        entry = tarfile.TarInfo("lib/a.jar")
        entry.size = len(CONTENT)
        files.addfile(entry, io.BytesIO(CONTENT))
    content = packed.getvalue()
    archive = Jar("org.example", "app", "1.0", hashlib.sha256(content).hexdigest(), "tar.gz", "all")
    monkeypatch.setattr(jars, "locked_jars", lambda section: [archive])
    assert parse_lock(f"[registry]\n{archive} {archive.sha256}\n") == {"registry": [archive]}
    with pytest.raises(ConfigError, match=r"org\.example:app:1\.0:tar\.gz:all .* sha256"):
        download([archive], tmp_path, resolver_that_writes(content[:-1]))
    assert jars.missing_jars("registry", tmp_path) == [archive]
    download([archive], tmp_path, resolver_that_writes(content))
    assert jars.missing_jars("registry", tmp_path) == []
    assert (archive.path(tmp_path) / "lib" / "a.jar").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "org.example").iterdir()] == ["app-1.0"]


def test_the_cache_directory_can_be_set(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBEDSTREAM_CACHE_DIR", str(tmp_path))
    assert jars.cache_directory(load_settings()) == tmp_path / "jars"
    monkeypatch.delenv("EMBEDSTREAM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert jars.cache_directory(load_settings()) == tmp_path / "xdg" / "embedstream" / "jars"
