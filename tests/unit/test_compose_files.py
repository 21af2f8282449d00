"""What the Docker stack promises that can be read from its files; tests/compose runs it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from embedstream.jars import locked_jars
from embedstream.limits import slot_heap_bytes
from embedstream.local.flink import shipped_configuration
from embedstream.pipelines.choice import DECIDED
from embedstream.settings import OF_NO_VARIABLE, Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
PIPELINES_TEXT = (ROOT / "compose.pipelines.yaml").read_text()
PIPELINES = yaml.safe_load(PIPELINES_TEXT)
FLINK = ("flink-jobmanager", "flink-taskmanager", "flink-submit")
OBSERVERS = ("prometheus", "grafana")
DOCKERFILES = sorted((ROOT / "deploy").glob("*/Dockerfile"))
SCRIPTS = [ROOT / "e2e_test.sh", ROOT / ".ci" / "run", *sorted((ROOT / "deploy").rglob("*.sh"))]
# Read by processes that do not run in these containers.
NOT_IN_DOCKER = {"flink_home", "embedstream_cache_dir"}
# The addresses inside of the stack are fixed.
FIXED = {"embedding_host", "embedding_port", "console_host", "console_port"}
READERS = ("console", *FLINK)
# What the service and its clients must agree about.
OF_BOTH = {"embedding_api_key", "embedding_max_request_bytes", "log_level"}


def dockerfile_of(service):
    build = service.get("build")
    return (ROOT / build["dockerfile"]).read_text() if build else ""


def test_the_promised_services_are_there():
    assert set(SERVICES) == {
        "kafka", "kafka-ui", "embedding-service", "console", "pgvector-postgres", "pgadmin", *FLINK, *OBSERVERS,
    }  # fmt: skip


def test_what_observes_is_started_for_who_asks_for_it():
    """No service of the plain stack waits for one of a profile: Compose would refuse to start it."""
    assert {name for name, service in SERVICES.items() if "profiles" in service} == set(OBSERVERS)
    assert {profile for name in OBSERVERS for profile in SERVICES[name]["profiles"]} == {"observability"}
    plain = [service for name, service in SERVICES.items() if name not in OBSERVERS]
    assert not {need for service in plain for need in service.get("depends_on", {})} & set(OBSERVERS)


@pytest.mark.parametrize(
    ("service", "variable", "port"),
    [
        ("kafka", "KAFKA_HOST_PORT", 9092),
        ("kafka-ui", "KAFKA_UI_HOST_PORT", 8082),
        ("embedding-service", "EMBEDDING_SERVICE_HOST_PORT", 5000),
        ("pgvector-postgres", "PGVECTOR_HOST_PORT", 5432),
        ("pgadmin", "PGADMIN_HOST_PORT", 8080),
        ("flink-jobmanager", "FLINK_HOST_PORT", 8081),
        ("console", "CONSOLE_HOST_PORT", 8083),
        ("prometheus", "PROMETHEUS_HOST_PORT", 9090),
        ("grafana", "GRAFANA_HOST_PORT", 3000),
    ],
)
def test_host_ports_are_on_loopback_and_can_be_moved(service, variable, port):
    (published,) = SERVICES[service]["ports"]
    assert published.startswith(f"127.0.0.1:${{{variable}:-{port}}}:")


def test_no_other_service_has_a_host_port():
    assert sum(len(service.get("ports", ())) for service in SERVICES.values()) == 9


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_stays_and_has_a_health_check(name):
    """A container that ends with 0 would fail `up --wait`: so there is no one-shot here."""
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service or "HEALTHCHECK" in dockerfile_of(service)


@pytest.mark.parametrize("name", SERVICES)
def test_every_dependency_is_waited_for_until_it_is_healthy(name):
    needs = SERVICES[name].get("depends_on", {})
    assert all(need["condition"] == "service_healthy" for need in needs.values())


def test_the_submitter_stops_before_all_that_it_needs():
    assert set(SERVICES["flink-submit"]["depends_on"]) >= {"kafka", "pgvector-postgres", "flink-taskmanager"}


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - OF_NO_VARIABLE - NOT_IN_DOCKER - FIXED))
def test_every_setting_reaches_who_reads_it(name):
    variable = name.upper()
    is_service_s = name.startswith(("embedding_", "hf_")) and not name.startswith("embedding_service_")
    is_client_s = name in ("embedding_batch_texts", "embedding_requests_in_flight")
    is_remote_s = name.startswith("remote_")
    readers = ("embedding-service",) if is_remote_s or (is_service_s and not is_client_s) else READERS
    readers = ("console",) if name.startswith(("console_", "mcp_")) else readers
    for service in ("embedding-service", *READERS) if name in OF_BOTH else readers:
        assert str(SERVICES[service]["environment"][variable]).startswith(f"${{{variable}")


# Since which version Docker Compose knows what such a file may have, by its reference.
SINCE = [
    ((2, 20, 0), "depends_on.required", lambda: any("required" in need for need in needs())),
    ((2, 20, 2), "healthcheck.start_interval", lambda: "start_interval" in str(COMPOSE)),
    ((2, 20, 3), "include", lambda: "include" in COMPOSE),
    ((2, 22, 0), "develop", lambda: any("develop" in service for service in SERVICES.values())),
    ((2, 23, 1), "configs.content", lambda: any("content" in config for config in COMPOSE.get("configs", {}).values())),
    ((2, 24, 0), "env_file.path", lambda: any("env_file" in service for service in SERVICES.values())),
    ((2, 30, 0), "post_start", lambda: "post_start" in str(COMPOSE)),
    ((2, 38, 0), "models", lambda: "models" in COMPOSE),
]  # fmt: skip


def needs():
    return [need for service in SERVICES.values() for need in service.get("depends_on", {}).values()]


def test_the_least_version_of_compose_is_stated_where_it_is_looked_for():
    least = max((since for since, _, used in SINCE if used()), default=(2, 0, 0))
    for path in ("compose.yaml", "README.md", "docs/howto/docker.md"):
        (stated,) = set(re.findall(r"Docker Compose (\d+)\.(\d+)\.(\d+)", (ROOT / path).read_text()))
        assert tuple(map(int, stated)) == least, path


def test_the_pipelines_file_states_its_least_version_of_compose():
    """An env_file that need not be there; `!reset` and `!override` would want a newer one."""
    since = next(since for since, what, _ in SINCE if what == "env_file.path")
    assert all("required" in each for service in PIPELINES["services"].values() for each in service["env_file"])
    assert "!" not in PIPELINES_TEXT
    for path in ("compose.pipelines.yaml", "docs/howto/docker.md"):
        stated = re.findall(r"Compose (\d+)\.(\d+)\.(\d+)", (ROOT / path).read_text())
        assert since in {tuple(map(int, each)) for each in stated}, path


def test_the_gpu_file_builds_the_service_with_pytorch_and_reserves_a_gpu():
    """It says of the service only what is other than in compose.yaml."""
    gpu = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text())
    assert set(gpu["services"]) == {"embedding-service"}
    service = gpu["services"]["embedding-service"]
    assert service["environment"] == {"EMBEDDING_ENGINE": "sentence-transformers", "EMBEDDING_DEVICE": "cuda"}
    assert service["image"] != SERVICES["embedding-service"]["image"]
    (argument,) = service["build"]["args"]
    dockerfile = dockerfile_of(service)
    assert f"ARG {argument}=\n" in dockerfile
    assert 'if [ -n "$GPU" ]' in dockerfile
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_the_gpu_image_keeps_the_plain_one_s_versions():
    plain, gpu = (
        dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements" / name).read_text(), flags=re.MULTILINE))
        for name in ("service.txt", "gpu.txt")
    )
    assert {"torch", "sentence-transformers"} <= gpu.keys()
    assert {name: plain[name] for name in plain.keys() & gpu.keys()} == {
        name: gpu[name] for name in plain.keys() & gpu.keys()
    }


def test_every_port_s_variable_is_explained():
    text = (ROOT / "docs" / "howto" / "docker.md").read_text()
    assert all(variable in text for variable in re.findall(r"\w+_HOST_PORT", (ROOT / "compose.yaml").read_text()))


def test_every_variable_of_the_stack_is_in_the_example():
    files = (ROOT / "compose.yaml").read_text() + re.sub(r"#.*", "", PIPELINES_TEXT)
    used = set(re.findall(r"\$\{([A-Z_]+)", files))
    shown = set(re.findall(r"^# ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    assert used == shown


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_are_pinned_unprivileged_labelled_and_checked(path):
    text = path.read_text()
    bases = re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)
    assert bases
    assert all(re.search(r":.*\d", base) for base in bases)
    assert re.findall(r"^USER (\w+)", text, flags=re.MULTILINE)[-1] not in ("root", "0")
    assert "HEALTHCHECK" in text
    assert "org.opencontainers.image.title" in text
    assert "# syntax=" not in text
    for install in re.findall(r"pip install (.*)", text):
        assert "--require-hashes" in install or "/dist/*.whl" in install


def test_images_that_are_not_ours_are_pinned():
    for service in SERVICES.values():
        assert "build" in service or re.search(r":.*\d", service["image"])


def test_what_is_kept_lies_in_named_volumes():
    used = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    shipped = {source for source in used if source.startswith("./deploy/")}
    assert used - shipped == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OBSERVERS)
def test_who_observes_reads_what_is_shipped(name):
    shipped = [volume.split(":") for volume in SERVICES[name]["volumes"] if volume.startswith("./")]
    assert shipped
    for source, _, mode in shipped:
        assert mode == "ro"
        assert any((ROOT / source).iterdir())


def test_prometheus_finds_what_it_scrapes():
    """By the names and ports of the stack, and with the keys that its parts ask for."""
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    console, service, flink = (jobs[name] for name in ("embedstream", "embedstream-service", "embedstream-flink"))
    [[console_target], [service_target]] = [job["static_configs"][0]["targets"] for job in (console, service)]
    for target in (console_target, service_target):
        name, _, port = target.partition(":")
        assert SERVICES[name]["ports"][0].endswith(f":{port}")
    [names] = flink["dns_sd_configs"]
    reporter = yaml.safe_load((ROOT / "deploy" / "flink" / "config.yaml").read_text())
    assert set(names["names"]) < set(FLINK)
    assert names["port"] == reporter["metrics.reporter.prom.port"]
    mounted = {each["target"]: COMPOSE["configs"][each["source"]] for each in SERVICES["prometheus"]["configs"]}
    for job, variable in ((console, "CONSOLE_READ_KEY"), (service, "EMBEDDING_API_KEY")):
        assert mounted[job["authorization"]["credentials_file"]]["content"].startswith(f"${{{variable}:-")


def test_grafana_finds_prometheus_and_the_dashboards():
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{SERVICES['prometheus']['ports'][0].rpartition(':')[2]}"
    [provider] = yaml.safe_load((folder / "dashboards" / "embedstream.yml").read_text())["providers"]
    targets = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert provider["options"]["path"] in targets


def test_flink_s_java_options_are_those_that_it_ships():
    ours = yaml.safe_load((ROOT / "deploy" / "flink" / "config.yaml").read_text())
    shipped = yaml.safe_load(shipped_configuration())
    assert ours["env.java.opts.all"] == shipped["env"]["java"]["opts"]["all"]


def test_the_jars_in_the_image_are_all_that_a_cluster_needs_of_the_lock():
    dockerfile = (ROOT / "deploy" / "flink" / "Dockerfile").read_text()
    assert "embedstream.jars flink" in dockerfile
    assert "COPY --from=build /opt/jars/*/*.jar /opt/jars/" in dockerfile
    # Jackson reads the tokens of OAUTHBEARER; the connector's jar leaves it out, and zstd.
    jackson = {f"jackson-{part}" for part in ("annotations", "core", "databind")}
    assert {jar.artifact for jar in locked_jars("flink")} == {"flink-sql-connector-kafka", "zstd-jni", *jackson}


def test_what_downloads_the_jars_in_the_image_has_all_that_it_imports():
    dockerfile = (ROOT / "deploy" / "flink" / "Dockerfile").read_text().partition("RUN PYTHONPATH=src")[0]
    copied = {path for line in re.findall(r"^COPY (.*)", dockerfile, re.MULTILINE) for path in line.split()[:-1]}
    imported = {
        f"src/{module.replace('.', '/')}.py"
        for path in copied
        if path.endswith(".py")
        for module in re.findall(r"^from (embedstream[\w.]*) import", (ROOT / path).read_text(), re.MULTILINE)
    }
    assert imported
    assert imported <= copied


@pytest.mark.parametrize("name", ["log4j-console.properties", "../../src/embedstream/local/log4j2.properties"])
def test_the_logger_that_prints_secrets_is_off(name):
    text = (ROOT / "deploy" / "flink" / name).read_text()
    logger = re.search(r"logger\.(\w+)\.name = .*\.DefaultJobBundleFactory", text)[1]
    assert f"logger.{logger}.level = off" in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_are_clean(path):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["service", "flink", "build"])
def test_the_locks_of_the_images_are_parts_of_the_lock(name):
    whole = (ROOT / "requirements" / "lock.txt").read_text().split("\n")
    part = (ROOT / "requirements" / f"{name}.txt").read_text().split("\n")
    pins = {line.split(" ")[0] for line in whole if "==" in line}
    assert {line.split(" ")[0] for line in part if "==" in line} <= pins
    assert not re.search(r"^torch==", "\n".join(part), flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["console", "flink-taskmanager", "flink-submit"])
def test_pipelines_of_a_file_reach_who_reads_it(name):
    """Submitter and console read the file, the TaskManager counts its slots by it; all may need what it refers to."""
    service = PIPELINES["services"][name]
    environment = service["environment"]
    assert {variable for variable, value in environment.items() if value == ""} == {each.upper() for each in DECIDED}
    assert environment.keys() <= SERVICES[name]["environment"].keys()
    (volume,) = service["volumes"]
    assert volume["source"] == "${EMBEDSTREAM_FILE:-embedstream.yaml}"
    assert (volume["target"], volume["read_only"]) == (environment["EMBEDSTREAM_FILE"], True)
    assert volume["bind"] == {"create_host_path": False}
    assert {each["source"] for each in service["configs"]} == PIPELINES["configs"].keys()


def test_the_pipelines_file_changes_no_other_service():
    assert PIPELINES["services"].keys() < SERVICES.keys()
    assert PIPELINES["services"].keys() == {"console", "flink-taskmanager", "flink-submit"}


TWO = """version: 1
pipelines:
  a: {topic: a, table: a_rows}
  b: {topic: b, table: b_rows, parallelism: 3}
"""


@pytest.fixture
def task_manager(tmp_path):
    """The arguments with which the image starts Flink's script, by the environment; or what it prints when it fails."""
    scripts = tmp_path / "bin"
    scripts.mkdir()
    installed = Path(sys.executable).parent
    # Which logins there are is another question, and takes its time.
    command = f'[ "$1" = flink-env ] || exec {installed}/embedstream "$@"'
    for name, line in {"taskmanager.sh": 'printf "%s\\n" "$@"', "embedstream": command}.items():
        (scripts / name).write_text(f"#!/bin/sh\n{line}\n")
        (scripts / name).chmod(0o755)
    entrypoint = (ROOT / "deploy" / "flink" / "entrypoint.sh").read_text()
    (tmp_path / "entrypoint.sh").write_text(entrypoint.replace("role=/tmp/role", f"role={tmp_path}/role"))

    def start(**environment):
        path = f"{scripts}:{installed}:/usr/bin:/bin"
        done = subprocess.run(
            ["/bin/sh", tmp_path / "entrypoint.sh", "taskmanager"],
            env={"PATH": path, "FLINK_HOME": tmp_path, "FLINK_LOG_DIR": tmp_path, **environment},
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.split() if done.returncode == 0 else done.stderr

    return start


def test_slots_and_memory_add_up_over_the_pipelines(task_manager, tmp_path):
    path = tmp_path / "pipelines.yaml"
    path.write_text(TWO)
    slots, memory = "taskmanager.numberOfTaskSlots", "taskmanager.memory.process.size"
    without = ["start-foreground", "-D", f"{slots}=2"]
    assert task_manager() == without
    assert task_manager(EMBEDSTREAM_FILE=str(tmp_path / "elsewhere.yaml")) == without
    five = ["start-foreground", "-D", f"{slots}=5", "-D", f"{memory}=3378m"]
    assert task_manager(EMBEDSTREAM_FILE=str(path)) == five
    last = task_manager(EMBEDSTREAM_FILE=str(path), FLINK_TASK_SLOTS="2", FLINK_PROPERTIES=f"{memory}: 2g")
    assert last == ["start-foreground", "-D", f"{slots}=2", "-D", f"{memory}=1728m", "-D", f"{memory}=2g"]


def test_a_task_manager_without_its_pipelines_says_what_is_wrong(task_manager, tmp_path):
    path = tmp_path / "pipelines.yaml"
    path.write_text("version: 1\npipelines: {a: {topic: a}}\n")
    assert "pipelines.a.table" in task_manager(EMBEDSTREAM_FILE=str(path))


@pytest.mark.parametrize("slots", [2, 3, 10, 40])
def test_each_slot_has_the_heap_that_a_record_of_the_longest_text_needs(slots):
    """As Flink divides the memory of a TaskManager, by its defaults and config.yaml."""
    config = yaml.safe_load((ROOT / "deploy" / "flink" / "config.yaml").read_text())
    process = int(config["taskmanager.memory.process.size"].removesuffix("m")) + (slots - 2) * 550
    flink = process - 256 - min(max(192, process / 10), 1024)
    heap = flink * (1 - 0.1 - config["taskmanager.memory.managed.fraction"]) - 128
    assert (heap - 64) / slots * 2**20 >= slot_heap_bytes(Settings.model_fields["max_text_bytes"].default)
