"""The command line: options, types and help come from the signatures and docstrings of the commands."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, get_type_hints

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentError, ArgumentParser

from scoutview import COMMANDS, __version__
from scoutview.completion import completion_script
from scoutview.errors import RunError, UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 failed, 2 wrong use."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"scoutview {__version__}")
        return 0
    if words[0] == "--completion":
        print(completion_script({name: build_parser(_command(name))[0] for name in COMMANDS}), end="")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(COMMANDS)}"
        return _complain(f"scoutview: unknown command {name!r}: {hint}", 2)
    try:
        function = _command(name)
        result = function(**parse(function, rest))
    except (UsageError, ArgumentError) as error:
        return _complain(f"scoutview {name}: {_one_line(str(error))}", 2)
    except RunError as error:
        return _complain(f"scoutview {name}: {_one_line(str(error))}", 1)
    except KeyboardInterrupt:
        return _complain(f"scoutview {name}: interrupted; the same command continues", 130)
    return result if type(result) is int else 0


def overview() -> str:
    """The help of `scoutview` itself: each command with the first line of its docstring."""
    about = {name: parse_docstring(_command(name).__doc__ or "").short_description for name in COMMANDS}
    lines = [
        f"scoutview {__version__}: pretrain on your own unlabelled medical images",
        "",
        *(f"  {name:10} {text}" for name, text in about.items()),
        "",
        "scoutview COMMAND --help tells the options of a command.",
        "scoutview --completion prints what completes them in bash and zsh.",
    ]
    return "\n".join(lines)


def parse(function: Callable[..., Any], words: Sequence[str]) -> dict[str, Any]:
    """The keyword arguments of a command from the words of a command line.

    Parameters before the `*` of the signature are positional; a list takes all words. `**settings` stands for the
    fields of the command's settings class.

    Raises:
        UsageError, ArgumentError: if the words do not fit.
    """
    parser, lists, settings = build_parser(function)
    options = [option for action in parser._actions for option in action.option_strings]
    words = [_spelled(word, options, function.__name__) for word in words]
    if "--help" in words:
        parser.print_help()
        raise SystemExit(0)
    values = parser.parse_args(words, defaults=False).as_dict()
    for name, kind in lists.items():
        if name in values:
            values[name] = [kind(value) for value in values[name]]
    given = {key: values.pop(key) for key in list(values) if key in settings}
    return {**values, **given}


def _spelled(word: str, options: Sequence[str], command: str) -> str:
    """An option word as the parser knows it: `--label-columns` is `--label_columns`, `-h` is `--help`."""
    if word == "-h":
        return "--help"
    if not word.startswith("--"):
        return word
    name, *value = word.split("=", 1)
    name = name.replace("-", "_").replace("__", "--", 1)
    if name not in options:
        near = difflib.get_close_matches(name, options, 1)
        hint = f"did you mean {near[0]}?" if near else f"scoutview {command} --help lists the options"
        raise UsageError(f"unknown option {name}: {hint}")
    return "=".join([name, *value])


def build_parser(function: Callable[..., Any]) -> tuple[ArgumentParser, dict[str, Callable[[str], Any]], set[str]]:
    """(parser, kinds of the positional lists, names of the settings)."""
    docstring = parse_docstring(function.__doc__ or "")
    help_of = {parameter.arg_name: parameter.description or "" for parameter in docstring.params}
    parser = ArgumentParser(
        prog=f"scoutview {function.__name__}", description=docstring.short_description, exit_on_error=False
    )
    hints = get_type_hints(function)
    lists: dict[str, Callable[[str], Any]] = {}
    settings: set[str] = set()
    for parameter in inspect.signature(function).parameters.values():
        name, hint = parameter.name, hints[parameter.name]
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            settings = _add_settings(parser, function.__name__)
        elif parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            if getattr(hint, "__origin__", None) is list:
                lists[name] = hint.__args__[0] if isinstance(hint.__args__[0], type) else str
                parser.add_argument(name, nargs="+", type=str, help=help_of.get(name))
            elif parameter.default is inspect.Parameter.empty:
                parser.add_argument(name, type=hint, help=help_of.get(name))
            else:
                parser.add_argument(name, type=hint, nargs="?", default=parameter.default, help=help_of.get(name))
        elif hint is bool:
            parser.add_argument(f"--{name}", action="store_true", help=help_of.get(name))
        elif getattr(hint, "__origin__", None) is list or "list[str]" in str(hint):
            required = parameter.default is inspect.Parameter.empty
            parser.add_argument(f"--{name}", nargs="+", type=str, required=required, help=help_of.get(name))
        else:
            required = parameter.default is inspect.Parameter.empty
            default = None if required else parameter.default
            parser.add_argument(f"--{name}", type=hint, required=required, default=default, help=help_of.get(name))
    return parser, lists, settings


def _add_settings(parser: ArgumentParser, command: str) -> set[str]:
    if command in ("pretrain", "plan"):
        from scoutview.pretraining import Recipe

        kinds: list[type] = [Recipe]
    else:
        from scoutview.tasks import SETTINGS

        kinds = list(dict.fromkeys(SETTINGS.values()))
    known: set[str] = set()
    for kind in kinds:
        # Tasks share most settings: each has its option once, as the first task has it.
        parser.add_class_arguments(kind, None, fail_untyped=True, skip=set(known))
        known |= set(get_type_hints(kind))
    return known


def _command(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(f"scoutview.commands.{name}"), name)
    return function


def _complain(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _one_line(text: str) -> str:
    from scoutview.commands.terminal import printable

    return printable(re.sub(r"\s+", " ", text).strip())


if __name__ == "__main__":
    sys.exit(main())
