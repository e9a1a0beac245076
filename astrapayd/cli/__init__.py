"""The command line: thin. Each command parses, calls a service, and prints."""

from __future__ import annotations

import os
import sys

import click

from astrapayd import __version__


class Commands(click.Group):
    """The root group. Plugins are loaded only for what they may add: the list of commands, or an unknown name."""

    _with_plugins = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, those of plugins too."""
        self._add_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name."""
        command = super().get_command(ctx, cmd_name)
        if command is None:
            self._add_plugins()
            command = super().get_command(ctx, cmd_name)
        return command

    def _add_plugins(self) -> None:
        if not self._with_plugins:
            self._with_plugins = True
            from astrapayd.cli.common import log_to_stderr
            from astrapayd.plugins import PluginHost

            log_to_stderr()
            host = PluginHost()
            host.load_installed()
            host.add_commands(self)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  astrapayd demo                                     try it on a chain inside this computer
  astrapayd init                                     begin a shop: writes astrapayd.toml
  astrapayd run                                      run the daemon
  astrapayd link create --title Coffee --amount 25 --currency USDT

\b
Every command takes --json. Exit codes: 0 done, 1 failed, 2 wrong usage, 70 a bug, 130 interrupted.
Shell completion: eval "$(_ASTRAPAYD_COMPLETE=bash_source astrapayd)"   (or zsh_source, fish_source)
""",
)
@click.version_option(__version__, prog_name="astrapayd")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Self-hosted crypto payments: your own nodes, unique amounts, no third party."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def _register() -> None:
    from astrapayd.cli import (
        backup,
        claim,
        config,
        database,
        doctor,
        explain,
        init,
        link,
        node,
        payment,
        plugins,
        run,
        session,
        unmatched,
        webhook,
    )

    for command in (
        *(init.init, run.run, link.link, session.session, explain.explain, payment.payment),
        *(unmatched.unmatched, claim.claim),
        *(node.node, webhook.webhook, config.config, doctor.doctor, plugins.plugins, database.db),
        backup.backup,
    ):
        cli.add_command(command)


_register()


def main() -> None:
    """The console script."""
    try:
        code = cli.main(prog_name="astrapayd", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has had enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ASTRAPAYD_DEBUG"):
            raise
        click.echo(f"astrapayd: {type(error).__name__}: {error}", err=True)
        click.echo("This is a bug. ASTRAPAYD_DEBUG=1 shows the traceback: please report it.", err=True)
        sys.exit(70)
