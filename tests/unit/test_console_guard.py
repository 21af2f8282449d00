import pytest
from pydantic import SecretStr

from embedstream.console.guard import check, is_loopback
from embedstream.errors import ConfigError
from embedstream.settings import Settings
from support.console import console

KEYS = {"console_api_key": SecretStr("writer"), "console_read_key": SecretStr("reader")}
LOCAL = {"base_url": "http://localhost:8083"}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def open_client():
    return console().test_client()


@pytest.fixture
def client():
    return console(**KEYS).test_client()


@pytest.mark.parametrize("host", ["localhost:8083", "127.0.0.1:1234", "[::1]:8083", "LOCALHOST"])
def test_without_a_key_names_of_loopback_are_answered(open_client, host):
    assert open_client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8083", "127.0.0.1.nip.io", "10.0.0.1:8083"])
@pytest.mark.parametrize("path", ["/", "/health", "/static/console.js", "/v1/pipelines"])
def test_a_name_that_somebody_made_point_here_is_refused(open_client, host, path):
    answer = open_client.get(path, headers={"Host": host, "Accept": "application/json"})
    assert (answer.status_code, answer.json["error"]["code"]) == (421, "host_not_allowed")


def test_with_a_key_any_name_will_do(client):
    assert client.get("/v1/pipelines", headers={"Host": "es.example", **bearer("reader")}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 400),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://localhost:8083"}, 400),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8083"}, 403),
        ({}, 400),
    ],
)
def test_what_another_site_s_page_posts_is_refused(open_client, headers, status):
    answer = open_client.post("/v1/search", json={}, headers=headers, **LOCAL)
    assert answer.status_code == status


def test_a_program_with_a_key_may_come_from_anywhere(client):
    headers = {"Origin": "https://app.example", **bearer("reader")}
    assert client.post("/v1/search", json={}, headers=headers).status_code == 400


@pytest.mark.parametrize("headers", [{}, bearer("other"), bearer(""), {"Authorization": "Basic reader"}])
def test_without_a_key_that_is_right_there_is_nothing_to_see(client, headers):
    answer = client.get("/v1/pipelines", headers=headers)
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "unauthorized")


def test_a_person_is_led_to_the_login_and_back(client):
    asked = client.get("/search?q=x", headers={"Accept": "text/html"})
    assert asked.headers["Location"] == "/login?next=/search?q%3Dx"
    entered = client.post(asked.headers["Location"], data={"key": "reader"})
    assert entered.headers["Location"] == "/search?q=x"
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "reader" not in cookie
    assert "may only look" in client.get("/").text


@pytest.mark.parametrize("next_", ["//evil.example", "https://evil.example/", "/\\evil.example", "evil"])
def test_the_login_leads_to_no_other_site(client, next_):
    answer = client.post("/login", query_string={"next": next_}, data={"key": "writer"})
    assert answer.headers["Location"] == "/"


def test_a_wrong_key_is_said_to_be_wrong_and_lets_nobody_in(client):
    answer = client.post("/login", data={"key": "guess"})
    assert answer.status_code == 403
    assert "not a key of this console" in answer.text
    assert client.get("/v1/pipelines").status_code == 401


def test_who_logs_out_is_out(client):
    client.post("/login", data={"key": "writer"})
    assert client.get("/v1/pipelines").status_code == 200
    client.post("/logout", headers={"Sec-Fetch-Site": "same-origin"})
    assert client.get("/v1/pipelines").status_code == 401


def test_a_cookie_of_another_key_is_none(client):
    client.post("/login", data={"key": "writer"})
    stolen = client.get_cookie("session")
    other = console(console_api_key=SecretStr("changed")).test_client()
    other.set_cookie("session", stolen.value)
    assert other.get("/v1/pipelines").status_code == 401


@pytest.mark.parametrize("path", ["/health", "/static/console.css"])
def test_what_tells_nothing_needs_no_key(client, path):
    with client.get(path) as answer:
        assert answer.status_code == 200


def test_every_answer_is_protected(open_client):
    headers = open_client.get("/", **LOCAL).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_no_page_has_code_or_styles_inside(open_client):
    for path in (
        "/",
        "/search",
        "/message/",
        "/doctor",
        "/index",
        "/index/drop?kind=words",
        "/map",
        "/pipelines",
        "/settings",
    ):
        text = open_client.get(path, **LOCAL).text
        for tag in ("<style", " style=", "<script>", " onclick=", "javascript:"):
            assert tag not in text, (path, tag)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "es.example"])
def test_it_listens_beyond_loopback_with_a_key_only(host):
    with pytest.raises(ConfigError, match="set CONSOLE_API_KEY"):
        check(Settings.model_construct(console_host=host))
    check(Settings.model_construct(console_host=host, console_read_key=SecretStr("k")))
    check(Settings.model_construct(console_host=host, console_without_key=True))


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_loopback_is_known(host, expected):
    assert is_loopback(host) is expected
