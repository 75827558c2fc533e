"""How a command ends: what goes wrong becomes a message and an exit status.

0; 2 for what the user can mend, with a message and a hint; 1 for our own faults; 130 after Ctrl-C, with the run saved.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from tunesmith.core import files
from tunesmith.core.errors import TunesmithError


def status_of(run: Callable[[], Any], messages: Console) -> int:
    """Call `run`, say what went wrong, and return the exit status. A fault of our own is raised."""
    try:
        status = run()
    except KeyboardInterrupt:
        messages.print("Stopped.")
        return 130
    except TunesmithError as error:
        return _failed(error, messages)
    except BrokenPipeError:
        # Whoever read our output wants no more of it (`| head`); nor may the interpreter's last flush complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in files.REFUSALS:
            raise
        return _failed(files.explain_disk(error, Path(str(error.filename or "a file"))), messages)
    except typer.Abort:
        return 130
    except Exception as error:
        return _usage(error)
    return status if isinstance(status, int) else 0


def _failed(error: TunesmithError, messages: Console) -> int:
    messages.print(f"error: {error.message}", markup=False, highlight=False)
    if error.hint:
        messages.print(f"\nhint: {error.hint}", markup=False, highlight=False)
    return error.exit_status


def _usage(error: Exception) -> int:
    # click's usage errors carry their own exit status and know how to show themselves; anything else is ours.
    show, status = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or status is None:
        raise error
    show()
    return int(status)
