"""The command palette: every command of the registry that this screen knows."""

from __future__ import annotations

from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from ..commands.command import Command
from ..commands.keys import shown_keys
from .screens.base import CommandScreen


class CommandProvider(Provider):
    """``area: verb``, with what it does; dimmed, with the reason, where it cannot be used now."""

    def _commands(self) -> list[Command]:
        screen = self.screen
        if not isinstance(screen, CommandScreen):
            return []
        return [found for found in screen.palette_commands() if found.in_palette]

    async def discover(self) -> Hits:
        for found in self._commands():
            yield DiscoveryHit(
                self._shown(Content(found.palette_title), found),
                partial(self._run, found),
                text=found.palette_title,
                help=self._help(found),
            )

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for found in self._commands():
            score = max(matcher.match(found.palette_title), matcher.match(found.doc) * 0.5)
            if score > 0:
                yield Hit(
                    score,
                    self._shown(matcher.highlight(found.palette_title), found),
                    partial(self._run, found),
                    text=found.palette_title,
                    help=self._help(found),
                )

    def _reason(self, found: Command) -> str | None:
        screen = self.screen
        return screen.reason_against(found) if isinstance(screen, CommandScreen) else None

    def _shown(self, title: Content, found: Command) -> Content:
        screen = self.screen
        assert isinstance(screen, CommandScreen)
        if self._reason(found) is not None:
            title = title.stylize("dim")
        keys = shown_keys(screen.qcow_app.keymap.keys_of(found.id))
        return title + Content.styled(f"  {keys}", "dim") if keys else title

    def _help(self, found: Command) -> str:
        reason = self._reason(found)
        return found.doc if reason is None else f"Not now: {reason}"

    async def _run(self, found: Command) -> None:
        screen = self.screen
        if isinstance(screen, CommandScreen):
            await screen.run_command(found)
