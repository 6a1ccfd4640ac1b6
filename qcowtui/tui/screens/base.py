"""What every full screen has: keys from the registry, a key bar, and reasons for dead keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import events, on
from textual.dom import DOMNode
from textual.screen import Screen

from ...commands.command import Command, Scope
from ...commands.registry import command, commands_in
from ...views.changes.obstacles import Keyed
from ...views.session import Session
from .._compat import ThriftyScreen
from ..bindings import key_of, why_not, with_keys
from ..widgets.key_bar import MAX_KEYS, KeyBar, KeyHint
from ..widgets.progress_line import ProgressLine

if TYPE_CHECKING:
    from ..app import QcowApp

#: What the key bar always ends with.
_LAST = ("app.palette", "app.help")


class CommandScreen(ThriftyScreen[None]):
    """A screen whose keys are commands; ``SCOPE`` is the scope of its own ones."""

    SCOPE: ClassVar[Scope]

    session: Session | None = None

    def __init__(self) -> None:
        super().__init__()
        self._by_key: dict[tuple[Scope, ...], dict[str, Command]] = {}
        self._refused: Command | None = None  # what the reason on the screen is about

    @property
    def qcow_app(self) -> QcowApp:
        """The app, with its own type."""
        return cast("QcowApp", self.app)

    # ---- which commands there are

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes in force now, nearest first."""
        return (self.SCOPE, Scope.APP)

    def help_texts(self) -> list[tuple[str, str]]:
        """(heading, text) of what the help screen explains."""
        return []

    def commands(self) -> list[Command]:
        """The commands of the scopes in force, in that order."""
        return [found for scope in self.scopes for found in commands_in(scope)]

    def palette_commands(self) -> list[Command]:
        """The commands the palette offers: also those of panes that are not focused."""
        return self.commands()

    async def run_command(self, found: Command) -> None:
        """Carry a command out, as its key would, or say why it cannot be."""
        if not self._refuses(found):
            await self.app.run_action(found.action, self.target_of(found))

    def target_of(self, found: Command) -> DOMNode:
        """The screen, pane or app that carries a command out."""
        return self.app if found.scope is Scope.APP else self

    def reason_against(self, found: Command) -> str | None:
        """Why a command cannot be used now, or None."""
        reason = found.why_not(self.session)
        return with_keys(reason, self.qcow_app.keymap) if isinstance(reason, Keyed) else reason

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if why_not(action, parameters, self.session) else True

    def on_key(self, event: events.Key) -> None:
        """A key whose command cannot be used now says why instead of doing nothing."""
        self.say_why_not("")
        found = self._command_of(event.key)
        if found is not None and self._refuses(found):
            event.stop()

    def _refuses(self, found: Command) -> bool:
        """Say why a command cannot be used now; False when it can."""
        reason = self.reason_against(found)
        if reason is None:
            return False
        self.say_why_not(reason)
        self._refused = found
        return True

    def _command_of(self, key: str) -> Command | None:
        """The command a key means here: the nearest one."""
        scopes = self.scopes
        by_key = self._by_key.get(scopes)
        if by_key is None:
            by_key = self._by_key[scopes] = {}
            keymap = self.qcow_app.keymap
            for found in self.commands():
                for one in keymap.keys_of(found.id):
                    by_key.setdefault(one, found)
        return by_key.get(key)

    def say_why_not(self, reason: str) -> None:
        """Tell a reason until the next key; an empty one takes it back."""
        self._refused = None
        self.query_one(ProgressLine).note(reason)

    # ---- the key bar

    # Textual itself calls the ``on_`` methods of every class above: none calls its parent's.
    def on_mount(self) -> None:
        self.bindings_updated_signal.subscribe(self, self._refresh_key_bar)
        self._refresh_key_bar(self)

    def _refresh_key_bar(self, _screen: Screen[Any]) -> None:
        if self._refused is not None and not self._refuses(self._refused):
            self.say_why_not("")  # a key that can be used by now
        if not self.is_current:
            return
        last = [self._hint(command(id)) for id in _LAST]
        hints = [
            self._hint(found)
            for found in self.commands()
            if found.label and found.id not in _LAST and self._key(found)
        ]
        self.query_one(KeyBar).show((*hints[: MAX_KEYS - len(last)], *last))

    def _key(self, found: Command) -> str:
        return key_of(self.qcow_app.keymap, found)

    def _hint(self, found: Command) -> KeyHint:
        return KeyHint(
            self._key(found), found.label, found.id, found.doc, self.reason_against(found)
        )

    @on(KeyBar.Pressed)
    async def _key_clicked(self, event: KeyBar.Pressed) -> None:
        await self.run_command(command(event.hint.id))
