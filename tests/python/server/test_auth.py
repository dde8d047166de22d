"""Who may do what: tokens of a real identity provider over HTTP, and permissions that stock Feast
applied. Each request goes to stock Feast's server too, which must decide the same and say the
same, but for what is said here to differ."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureView, Field, PushSource, ValueType
from feast.feature_server import get_app as feasts_app
from feast.on_demand_feature_view import on_demand_feature_view
from feast.permissions.action import AuthzedAction
from feast.permissions.auth.auth_manager import AllowAll, set_auth_manager
from feast.permissions.permission import Permission
from feast.permissions.policy import (
    CombinedGroupNamespacePolicy,
    GroupBasedPolicy,
    NamespaceBasedPolicy,
    RoleBasedPolicy,
)
from feast.permissions.security_manager import no_security_manager
from feast.permissions.server.utils import (
    ServerType,
    init_auth_manager,
    init_security_manager,
    str_to_auth_manager_type,
)
from feast.types import Int64

from feastrs import errors
from feastrs.asgi import get_app
from feastrs.server import Server
from testbed.asgi_client import AsgiClient
from testbed.certificates import write_certificate
from testbed.http import ask, until
from testbed.identity_provider import KEYS, IdentityProvider
from testbed.repo import Applied, Repo, apply, file_source

READ = "/get-online-features"
AT = datetime(2026, 1, 2, tzinfo=timezone.utc)
REFUSED = (401, b'{"detail":"Invalid or expired access token"}')
READER = {"roles": ["reader"]}
WRITER = {"roles": ["reader"], "groups": ["writers"]}
DF = {"driver_id": [1], "event_timestamp": ["2026-02-01T00:00:00"], "trips": [5]}


def definitions(folder: Path) -> list[Any]:
    driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
    source = file_source(folder / "none.parquet")
    push = PushSource(name="pushed", batch_source=source)

    def view(name: str, **options: Any) -> FeatureView:
        return FeatureView(
            name=name,
            entities=[driver],
            ttl=timedelta(0),
            schema=[Field(name="driver_id", dtype=Int64), Field(name="trips", dtype=Int64)],
            **({"source": source} | options),
        )

    names = ["spaced", "grouped", "combined", "tagged", "hidden", "ahead"]
    stats, views = view("stats", source=push), {name: view(name) for name in names}

    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[stats], schema=[Field(name="twice", dtype=Int64)], mode="python"
    )
    def computed(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"twice": [trips * 2 for trips in inputs["trips"]]}

    read, write = [AuthzedAction.READ_ONLINE], [AuthzedAction.WRITE_ONLINE]

    def permission(name: str, kind: Any, patterns: list[str], actions: Any, policy: Any) -> Any:
        types = [kind]
        return Permission(
            name=name, types=types, name_patterns=patterns, actions=actions, policy=policy
        )

    readers, writers = RoleBasedPolicy(roles=["reader", "it's"]), GroupBasedPolicy(["writers"])
    both = CombinedGroupNamespacePolicy(groups=["writers"], namespaces=["n1"])
    return [
        *(driver, push, stats, *views.values(), computed),
        FeatureService(name="svc", features=[stats, views["hidden"]]),
        FeatureService(name="private", features=[stats]),
        permission("reading", FeatureView, ["stats", "gr.*"], read, readers),
        permission("writing", FeatureView, ["stats"], write, writers),
        permission("serving", FeatureService, ["svc"], read, readers),
        permission("spacing", FeatureView, ["spaced"], read, NamespaceBasedPolicy(["n1"])),
        permission("grouping", FeatureView, ["gro+uped"], read, writers),
        permission("combining", FeatureView, ["combined"], read, both),
        permission("looking", FeatureView, ["(?=ahead).*"], read, readers),
        Permission(
            name="tagging",
            types=[FeatureView],
            name_patterns=["tagged"],
            required_tags={"team": "a"},
            actions=read,
            policy=readers,
        ),
    ]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    folder = tmp_path_factory.mktemp("applied")
    return apply(folder, definitions(folder))


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    yield provider
    provider.stop()


def open_repo(applied: Applied, folder: Path, provider: IdentityProvider, **auth: Any) -> Repo:
    block = {"type": "oidc", "auth_discovery_url": provider.url, "client_id": "feast", **auth}
    repo = applied.open(folder, settings={"auth": block})
    # It makes the tables.
    repo.stock()
    return repo


class Both:
    """Stock Feast's server and ours, over one repo."""

    def __init__(self, repo: Repo) -> None:
        rows = pd.DataFrame({"driver_id": [1], "trips": [7], "event_timestamp": [AT]})
        stock = repo.stock()
        for view in stock.list_feature_views():
            stock.write_to_online_store(view.name, df=rows)
        self.url = ""
        self._repo = repo
        self._ours = Server(repo.ours(), port=0, no_access_log=True)
        self.url = self._ours.url
        self._stock = AsgiClient(feasts_app(stock))

    def ours(self, path: str, body: Any, token: str | None = None) -> tuple[int, bytes]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return ask(self.url, path, json.dumps(body).encode(), **headers)

    def stock(self, path: str, body: Any, token: str | None = None) -> tuple[int, bytes]:
        # What it is protected by belongs to the process.
        config = self._repo.stock().config.auth_config
        kind = str_to_auth_manager_type(config.type)
        if not getattr(self, "_guarded", False):
            init_security_manager(auth_type=kind, fs=self._repo.stock())
            init_auth_manager(auth_type=kind, server_type=ServerType.REST, auth_config=config)
            self._guarded = True
        authorization = None if token is None else f"Bearer {token}"
        answer = self._stock.post(path, body, authorization=authorization)
        return answer.status, answer.body

    def close(self) -> None:
        with self._ours:
            self._stock.close()
        no_security_manager()
        set_auth_manager(AllowAll())


@pytest.fixture(scope="module")
def both(
    applied: Applied, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    both = Both(open_repo(applied, tmp_path_factory.mktemp("repo"), provider))
    yield both
    both.close()


@pytest.fixture(scope="module")
def strict(
    applied: Applied, provider: IdentityProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], int]]:
    """The status of a read with a token, at a server that checks audience and issuer."""
    folder = tmp_path_factory.mktemp("strict")
    repo = open_repo(applied, folder, provider, audience="me", issuer="idp")
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        yield lambda token: ask(
            server.url, READ, reading("stats"), Authorization=f"Bearer {token}"
        )[0]


def reading(*views: str) -> bytes:
    return json.dumps(read_of(*views)).encode()


def read_of(*views: str) -> dict[str, Any]:
    features = [view if ":" in view else f"{view}:trips" for view in views]
    return {"entities": {"driver_id": [1]}, "features": features, "full_feature_names": True}


def forged(provider: IdentityProvider) -> str:
    """A good token, its claims replaced."""
    parts = provider.token().split(".")
    return ".".join([parts[0], provider.token(**WRITER).split(".")[1], parts[2]])


NOW = int(time.time())
TOKENS: dict[str, tuple[int, Callable[[IdentityProvider], str | None]]] = {
    "good": (200, lambda idp: idp.token(**READER)),
    "role of the client": (
        200,
        lambda idp: idp.token(resource_access={"feast": {"roles": ["reader"]}}),
    ),
    "no name but the subject's": (
        200,
        lambda idp: idp.token(preferred_username=None, sub="s", **READER),
    ),
    "audience and issuer, that nobody asks for": (
        200,
        lambda idp: idp.token(aud="x", iss="x", **READER),
    ),
    "odd claims": (200, lambda idp: idp.token(resource_access=5, groups="x", **READER)),
    "no role": (403, lambda idp: idp.token()),
    "role of another client": (
        403,
        lambda idp: idp.token(resource_access={"x": {"roles": ["reader"]}}),
    ),
    "roles that are no list": (403, lambda idp: idp.token(roles="reader")),
    "none": (401, lambda idp: None),
    "two words": (401, lambda idp: f"{idp.token(**READER)} x"),
    "garbage": (401, lambda idp: "a.b.c"),
    "expired": (401, lambda idp: idp.token(exp=NOW - 3600, **READER)),
    "expired just now": (401, lambda idp: idp.token(exp=int(time.time()) - 11, **READER)),
    "expiry that is no number": (401, lambda idp: idp.token(exp="soon", **READER)),
    "not yet valid": (401, lambda idp: idp.token(nbf=int(time.time()) + 3600, **READER)),
    "issued in the future": (401, lambda idp: idp.token(iat=int(time.time()) + 3600, **READER)),
    "unsigned": (401, lambda idp: idp.unsigned_token(**READER)),
    "unsigned and without a key": (401, lambda idp: idp.unsigned_token(None, **READER)),
    "the public key as secret": (401, lambda idp: idp.token_with_secret(**READER)),
    "another algorithm": (401, lambda idp: idp.token(alg="RS512", **READER)),
    "forged claims": (401, forged),
    "another key of the same name": (401, lambda idp: idp.token("k2", kid="k1", **READER)),
    "no name": (401, lambda idp: idp.token(preferred_username=None, **READER)),
    "subject that is no text": (401, lambda idp: idp.token(sub=None, jti=7, **READER)),
    "a service account's": (
        401,
        lambda idp: idp.token(**READER, **{"kubernetes.io": {"namespace": "n1"}}),
    ),
}


@pytest.mark.parametrize("case", TOKENS)
def test_tokens(case: str, both: Both, provider: IdentityProvider) -> None:
    status, make = TOKENS[case]
    token = make(provider)

    ours = both.ours(READ, read_of("stats"), token)

    assert ours[0] == status
    if status == 401:
        assert ours == REFUSED
    assert ours == both.stock(READ, read_of("stats"), token)


def test_a_token_without_expiry_is_refused(both: Both, provider: IdentityProvider) -> None:
    token = provider.token(exp=None, **READER)

    assert both.ours(READ, read_of("stats"), token) == REFUSED
    assert both.stock(READ, read_of("stats"), token)[0] == 200


def test_audience_and_issuer_are_checked_where_they_are_set(
    strict: Callable[[str], int], provider: IdentityProvider
) -> None:
    assert strict(provider.token(aud="me", iss="idp", **READER)) == 200
    assert strict(provider.token(aud=["x", "me"], iss="idp", **READER)) == 200
    for claims in [{"aud": "x", "iss": "idp"}, {"aud": "me", "iss": "x"}, {"aud": "me"}, {}]:
        assert strict(provider.token(**claims, **READER)) == 401, claims


SERVICE = {"entities": {"driver_id": [1]}, "feature_service": "svc", "full_feature_names": True}
PRIVATE = {**SERVICE, "feature_service": "private"}
PUSH = {"push_source_name": "pushed", "df": DF}
WRITE = {"feature_view_name": "stats", "df": DF}
WINDOW = {"start_ts": "2026-01-01", "end_ts": "2026-01-03"}
REQUESTS: dict[str, tuple[int, dict[str, Any], str, dict[str, Any]]] = {
    "a view": (200, READER, READ, read_of("stats")),
    "a view by a pattern": (200, READER, READ, read_of("grouped")),
    "a view by a group": (200, {"groups": ["writers"]}, READ, read_of("grouped")),
    "two policies, neither": (403, {"roles": ["x"]}, READ, read_of("grouped")),
    "a namespace, which no user has": (403, READER, READ, read_of("spaced")),
    "a group or a namespace": (200, WRITER, READ, read_of("combined")),
    "neither group nor namespace": (403, READER, READ, read_of("combined")),
    "one view of two": (403, READER, READ, read_of("stats", "hidden")),
    "no permission for it": (403, READER, READ, read_of("hidden")),
    "computed": (403, READER, READ, read_of("computed:twice")),
    "computed, its source not allowed": (403, {}, READ, read_of("computed:twice")),
    "unknown view": (404, {}, READ, read_of("nope")),
    "unknown service": (404, {}, READ, {**SERVICE, "feature_service": "nope"}),
    "a service, whatever is in it": (200, READER, READ, SERVICE),
    "a service without the role": (403, {}, READ, SERVICE),
    "a service without permission": (403, READER, READ, PRIVATE),
    "push without the action": (403, READER, "/push", PUSH),
    "push": (200, WRITER, "/push", PUSH),
    "push offline": (403, WRITER, "/push", {**PUSH, "to": "offline"}),
    "push both": (403, WRITER, "/push", {**PUSH, "to": "online_and_offline"}),
    "unknown push source": (422, {}, "/push", {**PUSH, "push_source_name": "nope"}),
    "write without the action": (403, READER, "/write-to-online-store", WRITE),
    "write": (200, WRITER, "/write-to-online-store", WRITE),
    "write, no permission": (
        403,
        WRITER,
        "/write-to-online-store",
        {**WRITE, "feature_view_name": "hidden"},
    ),
    "materialize without the action": (
        403,
        READER,
        "/materialize",
        {**WINDOW, "feature_views": ["stats"]},
    ),
    "materialize all": (403, READER, "/materialize", WINDOW),
    "materialize what is new": (
        403,
        READER,
        "/materialize-incremental",
        {"end_ts": "2026-01-05", "feature_views": ["stats"]},
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_permissions(case: str, both: Both, provider: IdentityProvider) -> None:
    status, claims, path, body = REQUESTS[case]
    token = provider.token(**claims)

    ours, stock = both.ours(path, body, token), both.stock(path, body, token)

    assert ours[0] == status, ours
    assert ours == stock


def test_who_may_write_may_materialize(both: Both, provider: IdentityProvider) -> None:
    body = {**WINDOW, "feature_views": ["stats"]}
    # There is no such source.
    assert both.ours("/materialize", body, provider.token(**WRITER))[0] not in (401, 403)


def test_required_tags_are_enforced(both: Both, provider: IdentityProvider) -> None:
    token = provider.token(**READER)
    assert both.ours(READ, read_of("tagged"), token)[0] == 403
    assert both.stock(READ, read_of("tagged"), token)[0] == 200


def test_a_name_pattern_that_is_not_supported_matches_nothing(
    both: Both, provider: IdentityProvider
) -> None:
    token = provider.token(**READER)
    assert both.ours(READ, read_of("ahead"), token)[0] == 403
    assert both.stock(READ, read_of("ahead"), token)[0] == 200


def test_a_permission_for_everybody_lets_nobody_in(
    provider: IdentityProvider, tmp_path: Path
) -> None:
    everybody = Permission(name="all", types=[FeatureView], actions=[AuthzedAction.READ_ONLINE])
    applied = apply(tmp_path / "applied", [*definitions(tmp_path), everybody])
    both = Both(open_repo(applied, tmp_path / "repo", provider))
    try:
        for claims, status in [(READER, 200), ({}, 403)]:
            token = provider.token(**claims)
            assert both.ours(READ, read_of("stats"), token)[0] == status
            assert both.stock(READ, read_of("stats"), token)[0] == 500
    finally:
        both.close()


def test_a_token_comes_before_the_body(both: Both) -> None:
    for body in (b"{", b"", b"{}", b"x" * 1000):
        assert ask(both.url, READ, body) == REFUSED


def test_an_app_in_another_server_asks_for_tokens_too(
    applied: Applied, provider: IdentityProvider, tmp_path: Path
) -> None:
    client = AsgiClient(get_app(open_repo(applied, tmp_path, provider).ours()))
    for claims, status in [(READER, 200), ({}, 403)]:
        authorization = f"Bearer {provider.token(**claims)}"
        answer = client.post(READ, read_of("stats"), authorization=authorization)
        assert answer.status == status
    assert client.post(READ, read_of("stats")).status == 401
    assert client.get("/health").status == 200
    client.close()


def test_without_a_token_one_may_ask_how_the_server_is(both: Both) -> None:
    for path in ("/health", "/ready", "/metrics", "/docs", "/openapi.json"):
        assert ask(both.url, path)[0] == 200, path


def test_another_project_gives_no_other_permissions(both: Both, provider: IdentityProvider) -> None:
    status, _ = both.ours(f"{READ}?project=other", read_of("hidden"), provider.token(**READER))
    assert status == 403


def test_servers_do_not_trust_each_other_unsigned(
    both: Both, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTRA_COMMUNICATION_BASE64", "secret")
    token = provider.unsigned_token(preferred_username="secret")

    assert both.ours(READ, read_of("hidden"), token) == REFUSED
    assert both.stock(READ, read_of("hidden"), token)[0] == 200


@pytest.fixture
def own(applied: Applied, tmp_path: Path) -> Iterator[tuple[Server, IdentityProvider]]:
    """A server with a provider of its own."""
    provider = IdentityProvider()
    repo = open_repo(applied, tmp_path, provider, jwks_cache_lifespan_seconds=1)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        yield server, provider
    provider.stop()


def read_as(server: Server, token: str) -> int:
    status, _ = ask(server.url, READ, reading("grouped"), Authorization=f"Bearer {token}")
    return status


def test_keys_are_rotated(own: tuple[Server, IdentityProvider]) -> None:
    server, provider = own
    old, new = provider.token("k1", **WRITER), provider.token("k2", **WRITER)
    assert read_as(server, old) != 401

    # In: at once, for a key that is not known makes the provider be asked.
    provider.published = ["k1", "k2"]
    assert read_as(server, new) != 401
    assert read_as(server, old) != 401

    # Out: when the keys are fetched again, at the end of their lifespan.
    provider.published = ["k2"]
    until(lambda: read_as(server, old) == 401, "the old key is forgotten")
    assert read_as(server, new) != 401


def test_unknown_keys_do_not_make_the_provider_be_asked_each_time(
    own: tuple[Server, IdentityProvider],
) -> None:
    server, provider = own
    begun = time.monotonic()
    for _ in range(50):
        assert read_as(server, provider.token("k3", **WRITER)) == 401
    # Once for the first keys, once for those that are not known, and as they get old.
    assert provider.asked[KEYS] <= 3 + 2 * (time.monotonic() - begun)


def test_a_provider_that_is_down_is_503(own: tuple[Server, IdentityProvider]) -> None:
    server, provider = own
    token = provider.token(**WRITER)
    provider.stop()
    assert read_as(server, token) == 503

    provider.start()
    until(lambda: read_as(server, token) == 200, "the provider is asked again")

    # Keys are good for their lifespan, and not for longer.
    provider.stop()
    until(lambda: read_as(server, token) == 503, "the keys are too old")
    provider.start()


@pytest.mark.parametrize(
    ("settings", "status"),
    [({}, 503), ({"ca_cert_path": ...}, 200), ({"verify_ssl": False}, 200)],
    ids=["an unknown authority", "ca_cert_path", "verify_ssl: false"],
)
def test_the_providers_certificate_is_checked(
    settings: dict[str, Any],
    status: int,
    applied: Applied,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files = write_certificate(tmp_path, "identity provider")
    if "ca_cert_path" in settings:
        settings = {"ca_cert_path": str(files[0])}
    provider = IdentityProvider(files)
    repo = open_repo(applied, tmp_path / "repo", provider, **settings)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        assert read_as(server, provider.token(**WRITER)) == status
    provider.stop()

    assert ("auth.verify_ssl is false" in caplog.text) == ("verify_ssl" in settings)


def test_a_certificate_that_is_none_does_not_start(applied: Applied, tmp_path: Path) -> None:
    provider = IdentityProvider()
    for path, why in [(tmp_path / "none.pem", "can't be read"), (Path(__file__), "no certif")]:
        folder = tmp_path / path.stem
        repo = open_repo(applied, folder, provider, ca_cert_path=str(path))
        with pytest.raises(errors.FeastConfigError, match=f"ca_cert_path.*{why}"):
            Server(repo.ours(), port=0)
    provider.stop()


@pytest.mark.parametrize("kind", ["kubernetes", "ldap"])
def test_what_is_not_supported_does_not_start(kind: str, applied: Applied, tmp_path: Path) -> None:
    repo = applied.open(tmp_path, settings={"auth": {"type": kind}})
    with pytest.raises(errors.UnsupportedError, match=kind):
        Server(repo.ours(), port=0)


def test_oidc_needs_the_provider(applied: Applied, tmp_path: Path) -> None:
    repo = applied.open(tmp_path, settings={"auth": {"type": "oidc", "client_id": "feast"}})
    with pytest.raises(errors.FeastConfigError, match="auth_discovery_url"):
        Server(repo.ours(), port=0)


def test_what_is_left_open_is_said_and_no_token_is(
    applied: Applied,
    provider: IdentityProvider,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    repo = open_repo(applied, tmp_path, provider, client_secret="hunter2")
    caplog.set_level("DEBUG", "feastrs")
    token = provider.token("k2", **READER)
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        assert read_as(server, token) == 401
    said = caplog.text
    assert "auth.audience is not set" in said
    assert "auth.issuer is not set" in said
    assert "a token was not accepted" in said
    assert "hunter2" not in said
    assert token not in said
    assert token.split(".")[2] not in said


def test_without_auth_no_token_is_looked_at(applied: Applied, tmp_path: Path) -> None:
    repo = applied.open(tmp_path)
    repo.stock()
    with Server(repo.ours(), port=0, no_access_log=True) as server:
        status, body = ask(server.url, READ, reading("hidden"), Authorization="Bearer x")
    assert status == 200, body
