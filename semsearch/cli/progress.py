"""Progress of long commands: a bar on a terminal, and a line every few seconds where the output goes elsewhere."""

from __future__ import annotations

from time import monotonic
from typing import Any

from rich.progress import Progress, Task, TaskID

REPORT_SECONDS = 5.0
"""Time between two lines."""


class ReportingProgress(Progress):
    """A progress bar that also reports where no bar can be drawn: in a log, or to a pipe.

    The field `counts` of a task, if it has one, says what has been done so far.
    """

    def __init__(self, *columns: Any, **options: Any) -> None:
        super().__init__(*columns, **options)
        self._reported = monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """As `Progress.update`; now and then it prints a line, if there is no bar."""
        super().update(task_id, **changes)
        if not self.console.is_terminal and monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = monotonic()
            task = next(task for task in self.tasks if task.id == task_id)
            self.console.print(_line(task), markup=False, soft_wrap=True)


def _line(task: Task) -> str:
    share = f"{task.percentage:.0f}%" if task.total else ""
    counts = str(task.fields.get("counts") or (f"{task.completed:,.0f} of {task.total:,.0f}" if task.total else ""))
    return " · ".join(part for part in (task.description, share, counts, f"{task.elapsed or 0:.0f} s") if part)
