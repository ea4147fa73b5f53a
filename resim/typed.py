"""Reading config files against typed models, with mistakes told in one line. Knows no physics."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from resim.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
_TYPES = (
    "[key]",
    "bool",
    "int",
    "float",
    "str",
    "scalar",
    "list",
    "drawn",
)  # what pydantic adds to a location for keys and unions


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML silently takes the last; tells where a value is none."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _wrong("a key is a list or a mapping, and must be a word", key)
            if key.value in seen:
                raise _wrong(f"the key {key.value!r} stands twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build any value; PyYAML takes a date such as 2026-13-01 for one, and then fails without saying where."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _wrong(f"{str(node.value)[:40]!r} is no {kind}; put it in quotes if it is a word", node) from error


def _wrong(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


# Numbers such as 4e-06, which JSON writes: PyYAML wants a point in them, and would make them text.
_FLOAT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789"))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML (or JSON) file that holds a mapping.

    Raises
    ------
    UserError
        Naming the file, and the line where the syntax is wrong.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a config file with --config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{path}{where}: {problem}; mend that line") from error
    except RecursionError as error:
        raise UserError(f"{path}: is nested too deep to be read; a config goes down a few levels") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no mapping of keys; start from the config.yaml that ships with the project")
    return values


def parse(model: type[Model], values: Any, where: str, under: str = "") -> Model:
    """Check values that were read from `where`, where they stand `under` a key.

    Raises
    ------
    UserError
        Naming the place, the key, what is wrong with it and what is allowed.
    """
    try:
        checked = model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error, model, under)}") from error
    for key, given in _converted(values, checked, under):
        raise UserError(f"{where}: {key}: input should be a valid number, not {given!r}")
    return checked


@lru_cache(maxsize=64)
def card_of(model: type[Model], settings: tuple[tuple[str, Any], ...], where: str = "settings") -> Model:
    """Fill a settings model from dotted names, `ecal.stochastic: 0.1`."""
    return parse(model, nested(settings, where), where)


def nested(settings: tuple[tuple[str, Any], ...], where: str) -> dict[str, Any]:
    """Turn dotted names into mappings of mappings.

    Raises
    ------
    UserError
        If a name goes into another that has a value itself.
    """
    values: dict[str, Any] = {}
    for name, value in settings:
        *path, last = name.split(".")
        place = values
        for word in path:
            place = place.setdefault(word, {})
            if not isinstance(place, dict):
                raise UserError(f"{where}: {name!r} goes into {word!r}, which has a value itself; keep one of the two")
        place[last] = value
    return values


def _converted(given: Any, taken: Any, key: str = "") -> Iterator[tuple[str, bool]]:
    """Find the booleans that became numbers, with their places: pydantic takes `true` for 1."""
    if isinstance(given, bool) and not isinstance(taken, bool):
        yield key, given
    elif isinstance(given, dict):
        inner = _by_key(taken) if isinstance(taken, BaseModel) else taken
        for word in (word for word in given if word in inner):
            yield from _converted(given[word], inner[word], f"{key}.{word}" if key else str(word))
    elif isinstance(given, list | tuple) and isinstance(taken, list | tuple):
        for i, pair in enumerate(zip(given, taken, strict=True)):
            yield from _converted(*pair, f"{key}.{i}")


def _by_key(model: BaseModel) -> dict[str, Any]:
    """Give the values by the keys that they may have in a file: names and aliases."""
    aliases = {name: field.alias or name for name, field in type(model).model_fields.items()}
    return dict(model) | {alias: getattr(model, name) for name, alias in aliases.items()}


def _explain(error: ValidationError, model: type[BaseModel], under: str) -> str:
    """Put the first mistake found by pydantic into one line."""
    first = error.errors(include_url=False)[0]
    words = [str(word) for word in first["loc"] if word not in _TYPES]
    key = ".".join([under, *words] if under else words)
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(model, first["loc"][:-1])
        nearest = get_close_matches(words[-1], allowed, 1)
        meant = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"unknown key {key!r}; allowed here: {', '.join(allowed)}{meant}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and not key:  # of several keys, which the message names
        return message
    shown = "" if first["type"] in ("missing", "value_error") else f", not {first['input']!r}"
    return f"{key or 'the file'}: {message[0].lower()}{message[1:]}{shown}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Name the keys that are allowed at a place in the config."""
    current: type[BaseModel] = model
    for word in location:
        names = {f.alias or n: f for n, f in current.model_fields.items()}
        if word in names:
            inner = _models_in(names[str(word)].annotation)
            current = inner[0] if inner else current
    return [f.alias or n for n, f in current.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner)]
