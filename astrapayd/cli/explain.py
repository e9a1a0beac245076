"""`astrapayd explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astrapayd.cli.common import emit_json, leaf, local_time, with_core

if TYPE_CHECKING:
    from astrapayd.services.core import Core


@click.command(
    epilog="""\b
Examples:
  astrapayd explain 7KQ2-M9XD           by the verification code that the customer reads out
  astrapayd explain ses_k5ql2…          by the session's id
"""
)
@click.argument("session_key", metavar="SESSION")
@leaf
def explain(config_path: Path, as_json: bool, session_key: str) -> None:
    """Say why a session stands where it stands: every change with its time, cause, rule and result."""
    from astrapayd.services import sessions
    from astrapayd.services.explain import standing

    async def work(core: Core) -> None:
        session_id = await sessions.find_by_key(core, session_key)
        details = await sessions.find_session(core, session_id)
        story = await sessions.story(core, session_id)
        sentence = standing(core, details)
        if as_json:
            emit_json({"session": session_id, "standing": sentence, "story": story})
            return
        state = details.row.state
        click.echo(click.style(" ".join([session_id, state.status, *sorted(state.flags)]), bold=True))
        click.echo(sentence)
        print_story(story)

    with_core(config_path, work)


def print_story(story: Sequence[Mapping[str, Any]]) -> None:
    """Every change, oldest first, two lines each."""
    click.echo(click.style("\nstory", bold=True))
    for change in story:
        result = change["result"]
        status = " ".join([result["status"], *result["flags"]])
        click.echo(f"{local_time(change['at'])}  {change['cause']}: {change['rule']}")
        click.echo(f"  → {status}, received {result['received']}, told: {', '.join(result['events']) or 'nobody'}")
