"""Where keys stand in TOML."""

from __future__ import annotations

import tomllib

import pytest

from kapla.config.lines import key_lines, line_of

TEXT = '''\
# a = 1
store = "a#b" # c = 2

listen = [
  "x", # ] y = 1
  """
z = 5 ]
""", 'it''s',
]
text = """
lent = 1""\\"
""\"""
raw = \'\'\'
[peers]
\'\'\'
inline = { a = 1, b = [ { c = 2 } ] }
  "quoted \\u0061" = 1
'single' = 2
a.b . "c" = 3

[[peers]]
url = "u"

  [[ peers ]]  # comment
key = "k"
[peers.more]
deep = 1
[table]
x = 1979-05-27T07:32:00Z'''.replace("'it''s'", "'its'")


def test_each_key_has_its_line() -> None:
    lines = key_lines(TEXT)
    named = [line.strip() for line in TEXT.split("\n")]
    assert tomllib.loads(TEXT)
    for path, begin in {
        ("store",): "store =",
        ("listen",): "listen =",
        ("text",): "text =",
        ("raw",): "raw =",
        ("inline",): "inline =",
        ("quoted a",): '"quoted',
        ("single",): "'single'",
        ("a",): "a.b .",
        ("a", "b", "c"): "a.b .",
        ("peers", 0): "[[peers]]",
        ("peers", 0, "url"): "url =",
        ("peers", 1): "[[ peers ]]",
        ("peers", 1, "key"): "key =",
        ("peers", 1, "more", "deep"): "deep =",
        ("table",): "[table]",
        ("table", "x"): "x =",
    }.items():
        assert named[lines[path] - 1].startswith(begin), path
    assert not {"a#b", "y", "z", "lent", "c"} & {path[0] for path in lines}
    assert line_of(lines, ("peers", 1, "missing")) == lines["peers", 1]
    assert line_of(lines, ("inline", "a")) == lines[("inline",)]
    assert line_of(lines, ("nothing",)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "a = 1",
        "a = 1\r\nb = 2\r\n",
        'a = """"x"""" ',
        "a = ''''x''''\nb = 1",
        'a = ["\\"]", \']\']\nb = 1',
        "a = [\n[1, 2],\n# ]\n]\nb = 1",
    ],
)
def test_every_key_of_the_first_level_is_found(text: str) -> None:
    assert {path[0] for path in key_lines(text)} == set(tomllib.loads(text))


def test_it_takes_time_in_proportion() -> None:
    # Of nested quantifiers one would notice: this would not end.
    text = "\n".join(f'key-{n} = ["{"x" * 50}", """\n{"y" * 50}\n"""]' for n in range(5000))
    lines = key_lines(text)
    assert lines[("key-4999",)] == 4999 * 3 + 1
