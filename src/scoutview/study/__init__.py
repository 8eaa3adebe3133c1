"""The paper's experiments as a grid: tasks x encoders x label fractions x seeds, on anyone's data.

In: a study file. Out: a result per cell, from which study.json takes every figure. A stopped study goes on.
"""

from scoutview.study.cells import Study
from scoutview.study.fractions import labelled_part
from scoutview.study.grid import run_grid
from scoutview.study.kinds import open_tasks
from scoutview.study.plan import StudyPlan, load_plan
from scoutview.study.summary import summarise
from scoutview.study.tasks import Sources

__all__ = ["Sources", "Study", "StudyPlan", "labelled_part", "load_plan", "open_tasks", "run_grid", "summarise"]
