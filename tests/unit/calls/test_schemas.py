"""What a model wrote as arguments, and what tools returned, against their schemas."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.calls.schemas import ToolSchemas
from cattlegrid.core.errors import ConfigurationError, ToolArgumentsInvalid, ToolResultInvalid
from tests.unit.calls.manifests import ARGUMENTS, BUNDLE, RESULTS, manifest

SCHEMAS = ToolSchemas()
REFUND = manifest(returns=RESULTS)
NAMES = ["amount", "kind", "lines", "note", "order_id", "when"]


def problems(raw: str) -> list[str]:
    with pytest.raises(ToolArgumentsInvalid) as raised:
        SCHEMAS.arguments(BUNDLE, REFUND, raw)
    first, *rest = raised.value.message.split("\n- ")
    assert first.startswith("The arguments of `refund` ")
    assert first.endswith("so it was not called. Mend this and call it again:")
    return rest


@pytest.mark.requirement("tools:arguments")
@pytest.mark.parametrize(
    ("raw", "accepted"),
    [
        ('{"order_id": 17, "amount": 79.90}', '{"amount":79.9,"order_id":17}'),
        ('{"amount": 5.0, "order_id": 17.0}', '{"amount":5,"order_id":17}'),
        (
            '{"note":null,"lines":[{"sku":"A1"}],"kind":"late","when":"2026-01-31","order_id":1,"amount":1e2}',
            '{"amount":100,"kind":"late","lines":[{"sku":"A1"}],"note":null,"order_id":1,"when":"2026-01-31"}',
        ),
    ],
)
def test_good_arguments_leave_as_canonical_json(raw: str, accepted: str) -> None:
    assert SCHEMAS.arguments(BUNDLE, REFUND, raw) == accepted


def test_nothing_at_all_counts_as_no_arguments() -> None:
    bare = manifest(name="bare", parameters={"type": "object", "additionalProperties": False})
    assert SCHEMAS.arguments(BUNDLE, bare, " ") == "{}"


@pytest.mark.requirement("tools:arguments")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            '{"orderId": 17, "amount": "79.90"}',
            [
                "`order_id` is missing; it must be an integer of at least 1: The number on the invoice.",
                '`amount` is "79.90" (a text); it must be a number greater than 0',
                f"`orderId` is no parameter; did you mean `order_id`? The parameters are: {', '.join(NAMES)}",
            ],
        ),
        (
            '{"order_id": 0, "amount": true, "note": 5, "kind": "lost", "when": "yesterday"}',
            [
                "`order_id` is 0 (an integer); it must be an integer of at least 1",
                "`amount` is true; it must be a number greater than 0",
                "`note` is 5 (an integer); it must be a text with a length of at most 5 or null",
                '`kind` is "lost" (a text); it must be one of "late", "broken"',
                '`when` is "yesterday" (a text); it must be a text in the format "date"',
            ],
        ),
        (
            '{"order_id": 1, "amount": 1, "note": "too long", "lines": [{"sku": "A"}, {"sku": "b", "n": 1}]}',
            [
                '`note` is "too long" (a text); it must be a text with a length of at most 5',
                '`lines[1].sku` is "b" (a text); it must be a text that matches "^[A-Z]"',
                "`lines[1].n` is no parameter; the parameters are: sku",
            ],
        ),
        (
            '{"order_id": 1.5, "amount": 1}',
            ["`order_id` is 1.5 (a number); it must be an integer of at least 1"],
        ),
        ("[17]", ['write {"name": value}, not [17]']),
        ('"17"', ['write {"name": value}, not "17"']),
        ('{"order_id": 1, "order_id": 2}', ['the key "order_id" is given twice']),
        ('{"amount": NaN}', ["NaN is no JSON number"]),
        ('{"amount": -Infinity}', ["-Infinity is no JSON number"]),
        ('{"amount": 1e999}', ["the number 1e999 is too large"]),
        ('{"amount": ' + "9" * 5_000 + "}", ["a number in it has too many digits"]),
        ('{"a":' * 30_000, ["they are longer than 65536 bytes"]),
        ('{"a":' * 10_000, ["it is nested too deeply"]),
        ('{"note": "\\ud83d"}', ["a text in it holds half of a surrogate pair, such as \\ud83d alone"]),
    ],
)
def test_wrong_arguments_are_refused_in_words_that_a_model_can_act_on(raw: str, expected: list[str]) -> None:
    assert sorted(problems(raw)) == sorted(expected)


@pytest.mark.requirement("input:json")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"order_id": 17,}', "at character 1"),  # 15 or 16, as Python's own parser counts
        ("{'order_id': 17}", "at character 1, near"),
        ('{"order_id": 17', "it ends too early, at character 15"),
        ('{"order_id": 17} extra', "at character 17, near"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place(raw: str, expected: str) -> None:
    assert problems(raw)[0].startswith(expected)


def test_a_refusal_is_short_however_much_is_wrong() -> None:
    many = json.dumps({f"key{i}" * 1_000: "x" * 1_000 for i in range(10)} | {"kind": "y" * 10_000})
    found = problems(many)
    assert len("".join(found)) < 3_000
    assert found[-1].startswith("and ")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(["order_id", "amount", "note", "kind", "when", "lines"]) | st.text(max_size=3), ANY_JSON
)


@given(FIELDS.map(json.dumps) | st.text() | ANY_JSON.map(json.dumps))
def test_whatever_is_written_is_accepted_as_canonical_json_or_refused(raw: str) -> None:
    try:
        accepted = SCHEMAS.arguments(BUNDLE, REFUND, raw)
    except ToolArgumentsInvalid:
        assert problems(raw)
    else:
        assert SCHEMAS.arguments(BUNDLE, REFUND, accepted) == accepted
        assert json.loads(accepted) == json.loads(raw)


@pytest.mark.requirement("tools:results")
@pytest.mark.parametrize(
    ("returned", "difference"),
    [
        ('{"data": {"items": []}}', "`results` missing; new key `data`"),
        ('{"results": [{"id": "5"}]}', "`results[0].id` is a text, declared an integer"),
        ('{"results": [{"id": 5}, {"key": 5}]}', "`results[1].id` missing; new key `results[1].key`"),
        (
            '{"results": null, "total": "3"}',
            "`results` is null, declared a list; `total` is a text, declared an integer or null",
        ),
        ('{"results": [], "page": 1}', "new key `page`"),
        ("null", "`result` is null, declared an object"),
        ("{'results': []}", "no acceptable JSON"),
        ('{"results": [NaN]}', "no acceptable JSON"),
        ('{"results": ["' + "x" * 70_000 + '"]}', "70017 bytes where at most 65536 are allowed"),
    ],
)
def test_a_result_of_another_shape_is_refused_with_the_difference(returned: str, difference: str) -> None:
    with pytest.raises(ToolResultInvalid) as raised:
        SCHEMAS.result(BUNDLE, REFUND, returned)
    assert raised.value.message == "The tool returned something of another shape than it declares."
    assert raised.value.detail.startswith(f"refund: {difference}")


@pytest.mark.requirement("tools:results")
def test_a_result_of_the_declared_shape_passes_as_it_came() -> None:
    returned = '{"results": [ {"id": 5, "extra": 1} ], "total": null}'
    assert SCHEMAS.result(BUNDLE, REFUND, returned) == returned
    undeclared = manifest(name="free")
    assert SCHEMAS.result(BUNDLE, undeclared, '["anything"]') == '["anything"]'
    with pytest.raises(ToolResultInvalid):
        SCHEMAS.result(BUNDLE, undeclared, '["anything"]', max_bytes=5)


def test_bundles_do_not_share_schemas_of_tools_with_the_same_name() -> None:
    narrow = manifest(parameters={"type": "object", "additionalProperties": False})
    assert SCHEMAS.arguments("other", narrow, "{}") == "{}"
    with pytest.raises(ToolArgumentsInvalid):
        SCHEMAS.arguments(BUNDLE, REFUND, "{}")


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, [], {"$ref": "https://schemas.invalid/a.json"}, {"pattern": "("}]
)
def test_a_schema_that_is_none_is_for_the_operator_to_mend_and_fetches_nothing(schema: object) -> None:
    with pytest.raises(ConfigurationError):
        SCHEMAS.arguments(BUNDLE, manifest(name=f"broken{schema}", parameters=schema), "{}")


def test_the_problem_of_the_alternative_that_was_meant_is_told() -> None:
    either = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "integer"}}]}
    tool = manifest(name="either", parameters={**ARGUMENTS, "required": [], "properties": {"of": either}})
    with pytest.raises(ToolArgumentsInvalid, match=r"`of\[1\]` is \"b\" \(a text\); it must be an integer"):
        SCHEMAS.arguments(BUNDLE, tool, '{"of": [1, "b"]}')


def test_expectations_are_named_in_words_of_the_schema() -> None:
    properties: dict[str, object] = {
        "a": {"const": "yes"},
        "b": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 2},
        "c": {"type": "object", "additionalProperties": False},
        "d": {"type": "integer", "multipleOf": 5},
        "e": {"not": {"type": "string"}},
        "f": {"type": "object", "additionalProperties": False, "properties": {}},
    }
    tool = manifest(name="words", parameters={"type": "object", "properties": properties})
    with pytest.raises(ToolArgumentsInvalid) as raised:
        SCHEMAS.arguments(BUNDLE, tool, '{"a":1.5,"b":["x","x"],"c":{"z":null},"d":7,"e":"no","f":{"z":1}}')
    assert raised.value.message.split("\n- ")[1:] == [
        '`a` is 1.5 (a number); it must be "yes"',
        '`b` is ["x", "x"] (a list); it must be a list with at most this many items: 2 and without repetitions',
        "`c` must be empty: there are no parameters; write {}",
        "`d` is 7 (an integer); it must be an integer that is a multiple of 5",
        '`e` is "no" (a text); it must be a value of another shape',
        "`f.z` is no parameter; there are no parameters",
    ]
    nothing = manifest(
        name="nothing", parameters={}, returns={"type": "object", "additionalProperties": False}
    )
    with pytest.raises(ToolResultInvalid, match="nothing: new keys in `result`, declared empty"):
        SCHEMAS.result(BUNDLE, nothing, '{"z":1}')
