"""YAML files become data with lines, and everything that is wrong with them a problem with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattlegrid.release.yaml_lines import MAX_FILE_BYTES, read_yaml


def test_each_key_has_the_line_where_it_stands() -> None:
    document = read_yaml(b"name: a\nlimits:\n  run_s: 5\n  list:\n    - x\n    - y\n", file="f.yaml")
    assert document.data == {"name": "a", "limits": {"run_s": 5, "list": ["x", "y"]}}
    assert document.line_of(("limits", "run_s")) == 3
    assert document.line_of(("limits", "list", 1)) == 6
    assert document.line_of(("limits", "missing", "deep")) == 2
    assert document.line_of(("missing",)) == 1


def test_keys_are_taken_as_they_are_written() -> None:
    assert read_yaml(b"on: 1\n5: yes\n", file="f").data == {"on": 1, "5": True}


@pytest.mark.requirement("input:yaml")
@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", 3, "written twice, first in line 1"),
        (b"a: [1,\nb: 2", 2, "not valid YAML"),
        (b"a: 1\n\tb: 2\n", 2, "not valid YAML"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        (b"a: 1\nb: \x01\n", 2, "a character that YAML does not allow"),
        (b"", 1, "empty"),
        (b"# only a comment\n", 1, "empty"),
        (b"a: 1\n---\nb: 2\n", 2, "single document"),
        (b"x: &x [*x]\n", 1, "nested more deeply"),
        (b"[" * 5_000, 1, "nested too deeply"),
        (b"a: 2024-13-45\n", 1, "month must be in 1..12"),
        (b"a: !!python/object/apply:os.getcwd []\n", 1, "tag python/object/apply:os.getcwd"),
        (b"a: !!python/name:os.getcwd\n", 1, "could not determine a constructor"),
        (b"a: &a {b: 1}\nc:\n  <<: *a\n", 3, "Merge keys"),
        (b"? [a]\n: 1\n", 1, "keys that are no text"),
        (b"a: !!bool maybe\n", 1, "cannot be read"),
        (b"a: !!int ''\n", 1, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(content: bytes, line: int, message: str) -> None:
    (problem,) = read_yaml(content, file="agent.yaml").problems
    assert (problem.file, problem.line) == ("agent.yaml", line)
    assert message in problem.message
    assert problem.fix


@pytest.mark.requirement("input:yaml")
def test_aliases_of_aliases_are_refused_before_they_grow() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    document = read_yaml("\n".join(lines).encode(), file="f")
    assert document.data is None
    assert "more values than can be read" in document.problems[0].message


@pytest.mark.requirement("input:yaml")
def test_a_large_file_is_refused() -> None:
    document = read_yaml(b"#" * (MAX_FILE_BYTES + 1), file="f")
    assert document.data is None
    assert "more than 262,144" in document.problems[0].message


@given(
    st.one_of(st.binary(max_size=200), st.text("ab:-[]{}&*!|>'\"#?,\n\t 019.", max_size=80).map(str.encode))
)
def test_no_bytes_raise_and_none_are_refused_without_a_reason(content: bytes) -> None:
    document = read_yaml(content, file="f")
    assert document.data is not None or document.problems
