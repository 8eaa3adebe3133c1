"""Completion of the command line: one script for bash and zsh, with every command, option and fixed value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args, get_origin

from jsonargparse import ArgumentParser

_SCRIPT = """\
# Completion of scoutview for bash and zsh; written by: scoutview --completion
if [ -n "${{ZSH_VERSION-}}" ]; then
  autoload -U +X compinit bashcompinit && compinit && bashcompinit
fi
_scoutview() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands} --help --version"
  else
    case "${{COMP_WORDS[1]}} $before $word" in
{cases}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _scoutview scoutview
"""
# Where nothing is offered, `-o default` offers files.


def completion_script(parsers: Mapping[str, ArgumentParser]) -> str:
    """The script, from the parser of each command."""
    cases = []
    for command, parser in parsers.items():
        options: list[str] = []
        valued = []
        for action in parser._actions:
            values = _values(getattr(action, "_typehint", None))
            options += [option for option in action.option_strings if option.startswith("--")]
            if not action.option_strings and values:
                valued.append((f'"{command} {command} "*', values))
            valued += [(f'"{command} {option} "*', values) for option in action.option_strings if values]
        cases += [(f'"{command} "*" -"*', options), *valued]
    lines = [f'      {pattern}) words="{" ".join(words)}";;' for pattern, words in cases]
    return _SCRIPT.format(commands=" ".join(parsers), cases="\n".join(lines))


def _values(hint: object) -> list[str]:
    """The words that a hint allows; none if it allows others, too."""
    return [str(value) for value in get_args(hint)] if get_origin(hint) is Literal else _optional(hint)


def _optional(hint: object) -> list[str]:
    inner = [part for part in get_args(hint) if part is not type(None)]
    return _values(inner[0]) if len(inner) == 1 and get_origin(inner[0]) is Literal else []
