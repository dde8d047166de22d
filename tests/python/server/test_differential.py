"""Thousands of requests for features, well-formed and broken, to stock Feast's server and to
ours: status codes, bodies and content types are equal, but for what is said here to differ."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.feature_server import JSON, OurServer, Reply, StockServer, our_server
from testbed.many_types import over_one_store
from testbed.redis_server import RedisServer

PATH = "/get-online-features"
REQUESTS = 1500


class Servers:
    """Both servers, over one store."""

    def __init__(self, stock: StockServer, ours: OurServer) -> None:
        self.stock = stock
        self.ours = ours

    def ask(self, body: Any, headers: dict[str, str] = JSON) -> tuple[Reply, Reply]:
        """What both answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.stock.ask(PATH, data, headers), self.ours.ask(PATH, data, headers)


@pytest.fixture(scope="module")
def servers(
    either_store: RedisServer | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    ours, stock = over_one_store(tmp_path_factory.mktemp("differential"), either_store)
    server = StockServer(stock)
    with our_server(ours) as running:
        yield Servers(server, running)
    server.close()


# -- What is compared.


def parsed(body: bytes) -> Any:
    """The JSON, with numbers as they are written."""
    return json.loads(
        body, parse_float=lambda text: ("float", text), parse_int=lambda t: ("int", t)
    )


def columns(body: bytes) -> tuple[dict[str, Any], Any]:
    """The columns by name, and what is said besides."""
    answer = parsed(body)
    names = answer["metadata"].pop("feature_names")
    assert len(names) == len(answer["results"])
    return dict(zip(names, answer.pop("results"), strict=True)), answer


def is_raised(body: bytes, name: str) -> bool:
    """Whether it is an error of that class of Feast's."""
    text = json.loads(body)
    return isinstance(text, str) and text.startswith("{") and json.loads(text)["class"] == name


def assert_equal(asked: Any, stock: Reply, ours: Reply) -> None:
    """Equal but for what the README says: a client's mistakes are not the server's."""
    if stock.status == 500 and is_raised(stock.body, "FeatureNameCollisionError"):
        assert (ours.status, ours.body) == (400, stock.body), asked
    elif stock.status == 500:
        assert ours.status in (404, 422), (asked, stock, ours)
        assert isinstance(json.loads(ours.body), str), (asked, ours)
    elif stock.status == 200:
        assert ours.status == 200, (asked, stock, ours)
        assert columns(ours.body) == columns(stock.body), (asked, stock, ours)
    else:
        assert ours == stock, asked
    assert ours.content_type == stock.content_type


# -- Well-formed requests.

STATS = ["rate", "acc", "trips", "label", "vip", "raw", "seen", "floats", "names", "facts", "n"]
DRIVERS = [1001, 1002, 1003, 9, -1, 2**62, "1001", " 1_002 ", "+1003", 1001.9, 1e3, True]
USERS = ["u1", "u2", "", "ü", "\x00", 1, 1.0, 1e22, False, 10**30, "None"]
SMALL = [1, 2, "2", 1.5, -(2**31), True]
KEYS = {"driver_id": DRIVERS, "user_id": USERS, "small_id": SMALL}


def any_of(dice: random.Random, options: list[Any], count: int) -> list[Any]:
    """Some of them: mostly all alike, as clients send them, or any."""
    alike = [one for one in options if type(one) is type(options[0])]
    return dice.choices(alike if dice.random() < 0.6 else options, k=count)


def well_formed(dice: random.Random) -> dict[str, Any]:
    rows = dice.choice([1, 1, 1, 2, 3, 7])
    body: dict[str, Any] = {"entities": {}}
    needed = {"driver_id"}
    if dice.random() < 0.2:
        body["feature_service"] = dice.choice(["svc", "renamed"])
        needed |= {"user_id"} if body["feature_service"] == "svc" else set()
    else:
        features = [f"stats:{name}" for name in dice.sample(STATS, dice.randint(1, 6))]
        if dice.random() < 0.3:
            features.append("by_both:both")
            needed.add("user_id")
        if dice.random() < 0.2:
            features = [dice.choice(["by_small:x", "by_user:x"])]
            needed = {"small_id"} if features == ["by_small:x"] else {"user_id"}
        body["features"] = features
    # Others of the project come back too.
    given = sorted(needed | set(dice.sample(sorted(KEYS), dice.choice([0, 0, 1]))))
    dice.shuffle(given)
    body["entities"] = {
        key: any_of(dice, KEYS[key], rows) if key in needed else [dice.choice(KEYS[key][:4])] * rows
        for key in given
    }
    if dice.random() < 0.2:
        body["entities"]["nobody_knows"] = dice.choice([[1], ["a"], [0.5]]) * rows
    if dice.random() < 0.3:
        body["full_feature_names"] = dice.choice([True, False, 1, 0.0, "YES", "off"])
    if dice.random() < 0.3:
        body["include_feature_view_version_metadata"] = dice.choice([True, "t", 0])
    return body


def test_well_formed_requests_have_equal_answers(servers: Servers) -> None:
    dice = random.Random(67)
    for _ in range(REQUESTS):
        body = well_formed(dice)
        stock, ours = servers.ask(body)
        assert stock.status == 200, (body, stock)
        assert_equal(body, stock, ours)


def test_of_one_feature_the_bytes_are_equal(servers: Servers) -> None:
    for name in STATS:
        # A map's members come in any order in Feast.
        if name != "facts":
            stock, ours = servers.ask(
                {"entities": {"driver_id": [1001, 1002, 1003, 4]}, "features": [f"stats:{name}"]}
            )
            assert ours == stock


def test_of_many_entities_the_answers_are_equal(servers: Servers) -> None:
    """Large answers take a way of their own through the server."""
    body = {
        "entities": {"driver_id": list(range(4000))},
        "features": ["stats:trips", "stats:acc", "stats:label"],
    }
    assert_equal(body, *servers.ask(body))


def test_computed_features_have_equal_answers(servers: Servers) -> None:
    for body in (
        {"features": ["computed:sum"]},
        {"features": ["computed:sum", "stats:acc", "stats:label"]},
        {"feature_service": "computing"},
    ):
        asked = {"entities": {"driver_id": [1001, 1002, 4], "val": [1, 2, 3]}, **body}
        assert_equal(asked, *servers.ask(asked))


# -- Mistakes.

VALUES: list[Any] = [
    *(None, True, 0, 1, 2, -1, 1.5, 1.0, 1e22, 2**63, 10**25, "", "x", "1", "ü", "yes"),
    *([], [1], ["a"], {}, {"a": 1}, [None], [[1]], [{"b": []}]),
]
REFERENCES: list[Any] = [
    *("nope:x", "stats:nope", "stats", "", ":", "off:x", "stats@v1:trips", "stats@latest:trips"),
    *("stats@foo:x", "stats:trips:x", "stats:trips", "other:trips", 1, None, ["stats:trips"]),
]


def mistaken(dice: random.Random) -> Any:
    """A request with one or two mistakes, most of them."""
    body = well_formed(dice)
    for _ in range(dice.choice([1, 1, 2])):
        match dice.randrange(6):
            case 0:
                body[dice.choice(sorted(body))] = dice.choice(VALUES)
            case 1:
                body.pop(dice.choice(sorted(body)), None)
            case 2:
                body["features"] = dice.choices(REFERENCES, k=dice.randint(0, 3))
                body.pop("feature_service", None)
            case 3 if isinstance(body.get("entities"), dict):
                body["entities"]["driver_id"] = dice.choice(VALUES)
            case 4:
                body["full_feature_names"] = dice.choice(VALUES)
            case _:
                body["feature_service"] = dice.choice(["nope", "svc", "", None])
        if not body:
            break
    return dice.choice(VALUES) if dice.random() < 0.03 else body


def test_mistakes_have_equal_answers_or_are_the_clients(servers: Servers) -> None:
    dice = random.Random(10)
    for _ in range(REQUESTS):
        body = mistaken(dice)
        stock, ours = servers.ask(body)
        if stock.status == 200 and lacks_a_join_key(body):
            assert ours.status == 422, (body, stock, ours)
            continue
        if stock.status == 500 and b"empty value" in stock.body and ours.status == 200:
            # Of a key that nobody needs.
            continue
        assert_equal(body, stock, ours)


def lacks_a_join_key(body: Any) -> bool:
    """Whether a composite key is asked for with a part of it: in Feast that is null."""
    features = body.get("features") or []
    return "by_both:both" in features and not {"driver_id", "user_id"} <= set(body["entities"])


@pytest.mark.parametrize("value", [None, [1], {}, "abc", "1.5", "", 2**63, 1e30, [], "- 1", "1__0"])
def test_keys_that_can_not_be_used_are_the_clients_mistake(servers: Servers, value: Any) -> None:
    for values in ([value], [1001, value]):
        stock, ours = servers.ask({"entities": {"driver_id": values}, "features": ["stats:trips"]})
        assert stock.status == 500
        assert ours.status == 422
        assert "driver_id" in json.loads(ours.body)


def test_digits_of_other_scripts_are_no_integers(servers: Servers) -> None:
    asked = {"entities": {"driver_id": ["\u0661"]}, "features": ["stats:trips"]}
    stock, ours = servers.ask(asked)
    assert (stock.status, ours.status) == (200, 422)


def test_a_part_of_a_composite_key_is_a_mistake(servers: Servers) -> None:
    stock, ours = servers.ask({"entities": {"user_id": ["u1"]}, "features": ["by_both:both"]})
    assert stock.status == 200
    assert columns(stock.body)[0]["both"]["values"] == [None]
    assert ours.status == 422


def test_keys_of_bytes_and_times_are_taken(servers: Servers) -> None:
    """Feast can't take them from JSON."""
    for key, feature, value, found in (
        ("raw_id", "by_raw:x", "/w==", 6),
        ("moment_id", "by_moment:x", "2026-01-02T03:04:05Z", 5),
        ("moment_id", "by_moment:x", "2026-01-02T04:04:05.9+01:00", 5),
    ):
        stock, ours = servers.ask({"entities": {key: [value]}, "features": [feature]})
        assert stock.status == 500
        assert json.loads(ours.body)["results"][1]["values"] == [found]


def test_values_of_keys_that_nobody_needs_are_passed_over(servers: Servers) -> None:
    entities = {"driver_id": [1001, 1002], "nobody_knows": [1, "a"]}
    stock, ours = servers.ask({"entities": entities, "features": ["stats:trips"]})
    assert stock.status == 500
    assert list(columns(ours.body)[0]) == ["driver_id", "trips"]


def test_request_data_that_is_missing_is_named(servers: Servers) -> None:
    asked = {"entities": {"driver_id": [1001]}, "features": ["computed:sum"]}
    stock, ours = servers.ask(asked)
    assert (stock.status, stock.body) == (404, ours.body)
    assert ours.status == 404


# -- Broken bodies.

PIECES = [b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\x00", b"NaN", b"-", b"1e9", b"\xff"]


def broken(dice: random.Random) -> bytes:
    data = bytearray(json.dumps(well_formed(dice)).encode())
    for _ in range(dice.randint(1, 3)):
        place = dice.randrange(len(data) + 1)
        match dice.randrange(4):
            case 0:
                data[place:place] = dice.choice(PIECES)
            case 1:
                del data[place : place + dice.randint(1, 5)]
            case 2:
                del data[place:]
            case _:
                data[place : place + 1] = dice.choice(PIECES)
        if not data:
            break
    return bytes(data)


def without_place(reply: Reply) -> Any:
    """Where JSON is broken, and how that is called, differs between versions of Python."""
    answer = json.loads(reply.body)
    if isinstance(answer, dict) and isinstance(answer.get("detail"), list):
        for one in answer["detail"]:
            if one["type"] == "json_invalid":
                one["loc"] = one["loc"][:1]
                del one["ctx"]
    return answer


def test_broken_bodies_have_equal_answers(servers: Servers) -> None:
    dice = random.Random(5)
    seen = set()
    for _ in range(REQUESTS):
        body = broken(dice)
        stock, ours = servers.ask(body)
        seen.add(stock.status)
        if b"\x00" in body[:4]:
            # Python takes it for UTF-16 or UTF-32.
            assert {stock.status, ours.status} <= {400, 422}, (body, stock, ours)
            continue
        if stock.status in (200, 500):
            is_partial = stock.status == 200 and ours.status == 422 and b"by_both" in body
            if not (is_partial or is_unprintable(stock) or is_ignored(stock, ours)):
                assert_equal(body, stock, ours)
        else:
            assert ours.status == stock.status, (body, stock, ours)
            assert without_place(ours) == without_place(stock), (body, stock, ours)
    assert {200, 400, 422} <= seen


def is_unprintable(stock: Reply) -> bool:
    """Feast fails to repeat a mistake that has a NaN in it."""
    return stock.status == 500 and b"not JSON compliant" in stock.body


def is_ignored(stock: Reply, ours: Reply) -> bool:
    """What nobody needs may be anything."""
    return stock.status == 500 and ours.status == 200


def test_mistakes_with_nan_are_mistakes(servers: Servers) -> None:
    stock, ours = servers.ask(b'{"entities": NaN}')
    assert stock.status == 500
    assert (ours.status, json.loads(ours.body)["detail"][0]["input"]) == (422, "NaN")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b'"text"',
        b"\xef\xbb\xbf{}",
        b'{"entities":{"driver_id":[1001]},"features":["stats:trips"],"features":["stats:n"]}',
        b'{"entities":{"driver_id":[1],"driver_id":[1001]},"features":["stats:trips"]}',
        b'{"entities":{"driver_id":[1001]},"features":["stats:tr\\u0069ps"],"more":[{}]}',
        b'{"entities":1.50,"features":-0}',
        b'{"entities":{"\xc3\xbc":{"z":1e5,"a":[1E400]}}}',
    ],
)
def test_odd_bodies_have_equal_answers(servers: Servers, body: bytes) -> None:
    stock, ours = servers.ask(body)
    if not is_unprintable(stock):
        assert (ours.status, without_place(ours)) == (stock.status, without_place(stock))


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/json; charset=utf-8", "application/x+JSON"]
)
def test_content_types_have_equal_answers(servers: Servers, content_type: str) -> None:
    body = b'{"entities":{"driver_id":[1001]},"features":["stats:trips"]}'
    headers = {"content-type": content_type} if content_type else {}
    stock, ours = servers.ask(body, headers)
    assert ours == stock


def test_what_can_not_be_read_is_refused(servers: Servers) -> None:
    """UTF-16, half of a surrogate pair, and depth that nobody needs: Feast takes or fails."""
    body = json.dumps({"entities": {"user_id": ["u1"]}, "features": ["by_user:x"]})
    deep = b'{"entities":{"user_id":["u1"]},"features":["by_user:x"],"x":' + b"[" * 200 + b"]" * 200
    for data, ours_status in (
        (body.encode("utf-16"), 400),
        (body.replace("u1", "\\ud800").encode(), 422),
        (deep + b"}", 400),
    ):
        _, ours = servers.ask(data)
        assert ours.status == ours_status, data
