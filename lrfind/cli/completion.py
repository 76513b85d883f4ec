"""What a shell offers when the Tab key is pressed after an option or an argument. No object is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from click import Context, Parameter
from click.shell_completion import CompletionItem

Completer = Callable[[Context, Parameter, str], list[CompletionItem]]


def complete_names(names: Iterable[str]) -> Completer:
    """Return a completer that offers names; in a list such as `cosine,li` it completes the last one."""

    def complete(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(last)]

    return complete


def complete_templates(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the templates."""
    from lrfind.config.templates import templates

    return [CompletionItem(name) for name in templates() if name.startswith(incomplete)]


def complete_configs(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer YAML files and the templates, or any file if no name begins like this."""
    folder, _, begin = incomplete.rpartition("/")
    files = sorted(Path(folder or ".").glob("*.y*ml"))
    found = [CompletionItem(str(file)) for file in files if file.name.startswith(begin)]
    found += complete_templates(ctx, parameter, incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def complete_runs(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the runs of ./runs, the newest first, or directories if none of them begins like this."""
    databases = sorted(Path("runs").glob("*/run.sqlite"), key=lambda file: file.stat().st_mtime, reverse=True)
    runs = [str(file.parent) for file in databases if str(file.parent).startswith(incomplete)]
    return [CompletionItem(run) for run in runs] or [CompletionItem(incomplete, type="dir")]
