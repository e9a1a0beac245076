"""Writes docs/cli.md from the commands themselves: ``python -m tests.unit.cli_reference``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from astrapayd.cli import cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = """\
# Commands

Made from the commands by `python -m tests.unit.cli_reference`; a test compares the two.

Every command that does something takes `--config PATH` (or `ASTRAPAYD_CONFIG`; else `./astrapayd.toml` if there is one,
else `/etc/astrapayd/astrapayd.toml`) and `--json`: then stdout holds one JSON document, and a failure is one object on
stderr, `{"error": {"type": …, "message": …, "problems": [{"key": …, "reason": …}]}}`.

| exit code | means |
| --- | --- |
| 0 | done |
| 1 | failed; one sentence for each problem is on stderr, and nothing is half-done |
| 2 | wrong usage |
| 70 | a bug; `ASTRAPAYD_DEBUG=1` shows the traceback |
| 130 | interrupted |
"""


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that is not a group, with its path, in alphabetical order."""
    if isinstance(command, click.Group):
        for name in sorted(command.list_commands(click.Context(command))):
            child = command.get_command(click.Context(command), name)
            assert child is not None
            yield from leaves(child, (*path, name))
    else:
        yield path, command


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    for path, command in leaves(cli):
        arguments = [p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)]
        parts.append(f"\n## `{' '.join(['astrapayd', *path, *arguments])}`\n\n{(command.help or '').strip()}\n")
        options = [
            p for p in command.params if isinstance(p, click.Option) and p.name not in ("config_path", "as_json")
        ]
        if options:
            parts.append("\n| option | meaning |\n| --- | --- |\n")
            parts += [f"| `{', '.join(o.opts)}` | {o.help}{' Required.' if o.required else ''} |\n" for o in options]
        examples = (command.epilog or "").replace("\b\n", "").replace("Examples:\n", "").rstrip()
        parts.append(f"\n```\n{examples}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
