"""The app: themes, keys, the palette, and which screen is shown."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar

from textual.app import SystemCommand
from textual.binding import BindingType
from textual.command import Provider
from textual.screen import Screen

from qcow.errors import QcowError

from ..commands.command import Scope
from ..commands.keymap import Keymap, keymap_path, load_keymap
from ..views.app_state import AppState, load_state, state_path
from ..views.session import Session, open_with_grants
from ._compat import CalmApp
from .bindings import bindings_for, textual_keymap
from .providers import CommandProvider
from .screens.base import CommandScreen
from .screens.dashboard import Dashboard
from .screens.error import ErrorScreen
from .screens.help import HelpScreen
from .screens.panel import PanelScreen
from .theme import THEMES, map_variables

if TYPE_CHECKING:
    from qcow.edit.plan import Plan


class QcowApp(CalmApp[int]):
    """Looks into disk images.  Returns what the check of the last image ends with."""

    TITLE = "qcowtui"
    # Those of the screens that may come first; a default screen's own sheet would not be read.
    CSS_PATH: ClassVar[list[str | PurePath]] = [
        "screens/dashboard.tcss",
        "screens/picker.tcss",
    ]
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(Scope.APP)
    COMMANDS: ClassVar[set[type[Provider]]] = {CommandProvider}  # type: ignore[assignment]
    DEFAULT_CSS = """
    Toast { max-width: 70; }
    ToastRack { margin-bottom: 4; }
    CommandPalette SearchIcon { display: none; }
    .-ascii Pane { border: ascii $foreground 30%; }
    .-ascii Pane:focus-within, .-ascii #box { border: ascii $accent; }
    """

    def __init__(self, session: Session | None = None, *, ascii_only: bool = False) -> None:
        """With a session its dashboard is shown, without one the list of images."""
        super().__init__()
        self.session = session
        self.set_class(ascii_only, "-ascii")
        self.crash_log = state_path().with_name("crash.log")
        self.keymap: Keymap = load_keymap(keymap_path())
        self.state: AppState = load_state(state_path())
        for theme in THEMES:
            self.register_theme(theme)
        names = self.available_themes
        self.theme = self.state.theme if self.state.theme in names else THEMES[0].name
        self.set_keymap(textual_keymap(self.keymap))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return map_variables(self.current_theme.dark)

    def get_default_screen(self) -> Screen[None]:
        if self.session is not None:
            return Dashboard(self.session)
        from .screens.picker import PickerScreen

        return PickerScreen()

    def on_mount(self) -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Not from another thread's loop, as in tests; then nobody sends signals either.
            with contextlib.suppress(RuntimeError, ValueError):
                leave = partial(self.leave, 128 + number)
                asyncio.get_running_loop().add_signal_handler(number, leave)
        if self.keymap.problems:
            self.push_screen(
                ErrorScreen(
                    "Your keys",
                    "\n".join(self.keymap.problems),
                    "All other keys work as you set them, the rest as usual.",
                    "Correct the file; docs/keys.md has the names of all commands.",
                )
            )
        self.theme_changed_signal.subscribe(self, lambda theme: self._remember(theme.name))

    def _remember(self, theme: str) -> None:
        if self.state.theme != theme:
            self.state.theme = theme
            self.state.save()

    # ---- images

    def open_image(self, path: str) -> None:
        """Open an image on a dashboard of its own; what goes wrong is explained."""
        try:
            session = open_with_grants(path, self.state)
        except QcowError as error:
            self.push_screen(
                ErrorScreen(
                    "This image cannot be opened",
                    str(error),
                    "Nothing was changed.",
                    "Pick another image, or look at the file with `qcowtui header`.",
                )
            )
            return
        self.session = session
        self.push_screen(Dashboard(session))

    def show_repaired(self, path: str, repaired: Plan) -> None:
        """The image that a file became which was none before, in place of that file."""
        try:
            session = open_with_grants(path, self.state)
        except QcowError as error:
            self.push_screen(ErrorScreen("It cannot be opened", str(error), "", ""))
            return
        session.unlocked = True
        self.session = session
        dashboard = Dashboard(session)
        dashboard.verify(repaired)
        self.switch_screen(dashboard)

    def show_picker(self, folder: str) -> None:
        """Leave the image on the screen for the list of images."""
        from .screens.picker import PickerScreen

        self.session = None
        if any(isinstance(screen, PickerScreen) for screen in self.screen_stack):
            self.pop_screen()
        else:
            self.switch_screen(PickerScreen(folder))

    # ---- commands

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """None: the registry has them all."""
        return ()

    @property
    def command_screen(self) -> CommandScreen | None:
        """The screen below any panel."""
        return next((s for s in reversed(self.screen_stack) if isinstance(s, CommandScreen)), None)

    def action_help(self) -> None:
        screen = self.command_screen
        if screen is not None and self.screen is screen:
            commands = [(found, screen.reason_against(found)) for found in screen.commands()]
            self.push_screen(HelpScreen(screen.help_texts(), commands, self.keymap))

    async def action_quit(self) -> None:
        """Leave, unless something is being written; planned changes are asked about."""
        for screen in reversed(self.screen_stack):
            if isinstance(screen, PanelScreen) and (reason := screen.why_stay()):
                screen.say(reason)
                return
        if isinstance(self.screen, Dashboard):
            self.screen.ask_to_leave(lambda: self.exit(self.exit_code))
        else:
            self.exit(self.exit_code)

    def leave(self, code: int) -> None:
        """Leave because the system asks to: what is being written first comes to a safe point."""
        for screen in self.screen_stack:
            if isinstance(screen, PanelScreen) and screen.why_stay():
                screen.cancel_then(lambda: self.exit(code))
                return
        self.exit(code)

    @property
    def exit_code(self) -> int:
        """That of the check; 0 while there is none."""
        check = None if self.session is None else self.session.check
        return 0 if check is None else check.exit_code


def run_app(session: Session | None, *, ascii_only: bool) -> int:
    """Run until the user leaves; the exit code."""
    app = QcowApp(session, ascii_only=ascii_only)
    result = app.run()
    return app.return_code or 0 if result is None else result
