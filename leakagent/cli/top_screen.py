"""The screen of ``leakagent top``; the one place that needs textual."""

from __future__ import annotations

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Header, Input, Static

from leakagent.live import client, overview
from leakagent.report.words import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

#: Seconds between two looks.
EVERY = 2.0

#: Seconds that a process gets to answer; one that is stopped must not keep the others from being shown.
_ANSWER = 1.0

_NOTHING = "nothing leaks here; Enter shows where these were made and where they are now"

_HEADS = ("PID", "STATE", "KIND", "LIVE", "+/-", "+/MIN", "PEAK", "CREATED", "LEAKS", "PROGRAM")


class Screen(App[None]):
    """A table of kinds by process, and below it what is known about the chosen line."""

    TITLE = "leakagent top"
    CSS = "DataTable { height: 1fr; } #details { height: 40%; overflow-y: auto; border-top: solid $primary; }"
    BINDINGS: ClassVar = [
        Binding("q", "quit", "Quit"),
        Binding("s", "order", "Sort"),
        Binding("slash", "search", "Filter"),
        Binding("r", "look", "Refresh"),
    ]

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__()
        self._view = overview.View()
        self._processes: list[dict[str, Any]] = []
        self._rows: dict[str, overview.Row] = {}
        self._order = next(iter(overview.ORDERS))
        self._word = ""
        #: Key of the line that more was asked about, and the answer.
        self._opened = ""
        self._answer: list[str] = []

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Header()
        yield Input(placeholder="program, kind or pid", id="word")
        yield DataTable(cursor_type="row", id="table")
        yield Static(id="details", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, and again and again."""
        self.query_one("#word").display = False
        self.query_one(DataTable).add_columns(*_HEADS)
        self.query_one(DataTable).focus()
        self.action_look()
        self.set_interval(EVERY, self.action_look)

    def action_look(self) -> None:
        """Ask all processes, in a thread."""
        self.run_worker(self._look, thread=True, exclusive=True)

    def _look(self) -> None:
        found = overview.everybody(_ANSWER)
        self.call_from_thread(self._show, found)
        row = self._rows.get(self._opened)
        if row is not None:
            self._ask(row)

    def _show(self, processes: list[dict[str, Any]]) -> None:
        self._processes = processes
        table = self.query_one(DataTable)
        chosen = self._chosen()
        rows = self._view.rows(processes, order=self._order, word=self._word)
        self._rows = {row.key: row for row in rows}
        table.clear()
        for row in rows:
            style = "bold red" if row.counts["findings"] else ""
            table.add_row(*(Text(cell, style) for cell in _cells(row)), key=row.key)
        if chosen in self._rows:
            table.move_cursor(row=list(self._rows).index(chosen))
        self.sub_title = f"{len(processes)} processes, by {self._order}"
        self._detail()

    def _chosen(self) -> str:
        table = self.query_one(DataTable)
        if not table.is_valid_row_index(table.cursor_row):
            return ""
        return str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)

    def _detail(self) -> None:
        row = self._rows.get(self._chosen())
        lines = [] if row is None else overview.details(row)
        if row is not None and row.key == self._opened:
            # What was asked for stays there, and is asked for again with every look.
            lines = [*lines, *self._answer]
        elif row is not None and not row.counts["findings"] and row.process["state"] != "silent":
            lines.append(_NOTHING)
        self.query_one("#details", Static).update("\n".join(safe(line, 400) for line in lines))

    def on_data_table_row_highlighted(self) -> None:
        """Show what is known about the line."""
        if self._chosen() and self._chosen() != self._opened:
            self._opened, self._answer = "", []
        self._detail()

    def on_data_table_row_selected(self) -> None:
        """Ask the process where these resources were made and are now, and for the frames of its threads."""
        row = self._rows.get(self._chosen())
        if row is not None:
            self._opened, self._answer = row.key, []
            self.run_worker(lambda: self._ask(row), thread=True)

    def _ask(self, row: overview.Row) -> None:
        try:
            inventory = client.ask(row.process["pid"], "inventory", _ANSWER)
            why = client.ask(row.process["pid"], "why", _ANSWER)
        except client.NoAnswerError as error:
            lines = [str(error)]
        else:
            lines = [*overview.places(row, inventory), "", "main thread:", *(f"  {frame}" for frame in why["main"])]
            for one in why["culprits"]:
                lines += [f"{one['kind']} {one['name']}:", *(f"  {frame}" for frame in one["frames"])]
        self.call_from_thread(self._answered, row.key, lines)

    def _answered(self, key: str, lines: list[str]) -> None:
        if key == self._opened:
            self._answer = lines
            self._detail()

    def action_order(self) -> None:
        """Sort by the next column."""
        names = list(overview.ORDERS)
        self._order = names[(names.index(self._order) + 1) % len(names)]
        self._show(self._processes)

    def action_search(self) -> None:
        """Let a word be typed that lines must contain."""
        field = self.query_one("#word", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the lines that contain what is typed."""
        self._word = event.value
        self._show(self._processes)

    def on_input_submitted(self) -> None:
        """Go back to the table."""
        self.query_one("#word").display = bool(self._word)
        self.query_one(DataTable).focus()


def _cells(row: overview.Row) -> tuple[str, ...]:
    from .top import cells

    pid, state, kind, live, *rest = cells(row)
    return pid, state, kind, live, f"{row.growth:+d}" if row.growth else "", *rest
