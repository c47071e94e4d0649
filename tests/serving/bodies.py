"""Bodies by the hundred, good and bad, in every spelling that JSON has for them."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["bodies_of", "pictures_of"]

_NUMBERS = (
    "0", "-0", "-0.0", "1", "1.0", "17", "39.1", "1e2", "1E+2", "0.1e3", "1e-320", "16777217",
    "NaN", "9007199254740993", "18446744073709551616", "1e39", "-1e39", "1e308", "1e309",
    "Infinity", "-Infinity", "01", "+1", ".5", "5.", "0x10", "1_000", "1" + "0" * 50,
    "1" + "0" * 400, "3.4028234e38", "3.4028236e38", "0.30000000000000004", "5e-324",
)  # fmt: skip
_OTHERS = (
    "null", "true", "false", '""', '"39.1"', '" 39.1 "', '"1e2"', '"NaN"', '"x"', '"true"', '"S"',
    '"male"', '"\\u0043"', '"\\ud800"', '"\\ud83d\\ude00"', '"é"', '"\u0000"', '"0930"', '"a b"',
    "[]", "{}", "[1]", '{"a": 1}', "nul", "'x'", '"' + "y" * 300 + '"',
)  # fmt: skip


def _object(fields: dict[str, str], gap: str = " ") -> str:
    inside = f",{gap}".join(f"{json.dumps(name)}:{gap}{text}" for name, text in fields.items())
    return "{" + inside + "}"


def _wrap(text: str, under: str | None) -> str:
    return text if under is None else _object({under: text})


def bodies_of(row: dict[str, Any], under: str | None = None, seed: int = 0) -> Iterator[bytes]:
    """Bodies around a good row of a table."""
    random_ = random.Random(seed)
    good = {name: json.dumps(value) for name, value in row.items()}
    one = _wrap(_object(good), under)
    for text in (
        one,
        _wrap(_object(good, ""), under),
        _wrap(_object(good, "\n\t "), under),
        f" \r\n{one}\n",
        f"\f{one}",
        f"{one}x",
        f"{one},",
        f"{one}{one}",
        f"[{one}]",
        f"[{one}, {one}, {one}]",
        f"[{one}, 1]",
        f"[{one},]",
        "[]",
        "{}",
        "[{}]",
        "",
        "null",
        "1",
        '"x"',
        one[:-1],
        one.replace('"', "'"),
        one.replace(": ", "= "),
        _object(good),
        _object({"features": _object(good), "more": "1"}),
        _object({"other": one}),
        _wrap(_object(good | {"more": "1"}), under),
        _wrap(_object(good | {"more": '"\\ud800"'}), under),
        _wrap(_object(good | {"more": "NaN"}), under),
        _wrap(_object(dict(reversed(good.items()))), under),
    ):
        yield text.encode()
    yield one.encode("utf-16")
    yield one.encode().replace(b'"', b"\xff", 1)
    yield b"\xef\xbb\xbf" + one.encode()
    yield one.encode() + b"\0"
    yield one.encode()[:-1] + b', "more": "\xff"}'
    for name in good:
        yield _wrap(
            _object({key: text for key, text in good.items() if key != name}), under
        ).encode()
        escaped = json.dumps(name).replace(name[0], f"\\u{ord(name[0]):04x}", 1)
        yield one.replace(json.dumps(name), escaped).encode()
        yield one.replace(json.dumps(name), json.dumps(name.upper())).encode()
        for text in (*_NUMBERS, *_OTHERS):
            yield _wrap(_object(good | {name: text}), under).encode(errors="surrogatepass")
        twice = _object(good)[:-1] + f", {json.dumps(name)}: {random_.choice(_NUMBERS)}}}"
        yield _wrap(twice, under).encode()
    for _ in range(150):
        changed = {name: random_.choice((text, text, *_NUMBERS[:7])) for name, text in good.items()}
        yield _wrap(_object(changed), under).encode()


def _pictures(size: int, random_: random.Random) -> Iterator[str]:
    def all_of(draw: Callable[[], object]) -> str:
        return "[" + ", ".join(str(draw()) for _ in range(size)) + "]"

    for _ in range(8):
        yield all_of(lambda: random_.choice((0, 0, 0, random_.randrange(256))))
        yield all_of(lambda: random_.randrange(256) / 255)
        yield all_of(lambda: random_.choice((0, 1, 0.5, 254.75)))
        yield all_of(lambda: random_.random() * random_.choice((1, 255, 1e-30)))
        yield all_of(lambda: f"{random_.random():.25f}")
    yield all_of(lambda: random_.choice((0, 1)))
    yield all_of(lambda: 0)
    yield all_of(lambda: 1.0)
    yield all_of(lambda: random_.choice(("-0", "-0.0", "0", "0.25")))
    yield all_of(lambda: random_.choice(("255", "255.0", "2.55e2", "1e-320")))
    flat = all_of(lambda: random_.randrange(256))
    numbers = flat[1:-1].split(", ")
    rows = [numbers[at : at + 28] for at in range(0, size, 28)]
    yield "[" + ", ".join("[" + ", ".join(row) + "]" for row in rows) + "]"
    yield f"[{flat}]"
    yield "[" + ", ".join(numbers[:-1]) + "]"
    yield "[" + ", ".join([*numbers, "0"]) + "]"
    yield "[]"
    yield "[[[]]]"
    for text in (*_NUMBERS, *_OTHERS, "256", "-1", "255.1"):
        place = random_.randrange(size)
        yield "[" + ", ".join([*numbers[:place], text, *numbers[place + 1 :]]) + "]"
    yield from _OTHERS


def pictures_of(size: int, names: tuple[str, ...], seed: int = 0) -> Iterator[bytes]:
    """Bodies of pictures of `size` numbers under one of the names, bare, and otherwise."""
    random_ = random.Random(seed)
    good = "[" + ", ".join(str(random_.randrange(256)) for _ in range(size)) + "]"
    for picture in _pictures(size, random_):
        yield _object({random_.choice(names): picture}).encode(errors="surrogatepass")
        yield picture.encode(errors="surrogatepass")
    first, second = names[:2]
    for body in (
        _object({first: good, second: good}),
        _object({second: good, first: "5"}),
        _object({first: good, second: '"x"'}),
        _object({first: "5"})[:-1] + f', "{first}": {good}}}',
        _object({first: good})[:-1] + f', "{first}": 5}}',
        _object({first: good, "more": "1"}),
        _object({first: good, "more": "[" * 150 + "]" * 150}),
        _object({first: good, "more": '"\\ud800"'}),
        _object({first: good, "more": "1e999"}),
        _object({f"\\u{ord(first[0]):04x}{first[1:]}": good}).replace("\\\\", "\\"),
        _object({first.upper(): good}),
        _object({first: good}, ""),
        f" {_object({first: good})}\n",
        f" {good}",
        f"{good} {good}",
        f"[{_object({first: good})}]",
        f"[{_object({first: good})}, {_object({first: good})}]",
    ):
        yield body.encode()
    yield _object({first: good}).encode()[:-1] + b', "more": "\xff"}'
    yield b"\xef\xbb\xbf" + good.encode()
