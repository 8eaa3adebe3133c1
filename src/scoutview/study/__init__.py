"""The paper's experiments as a grid: tasks x encoders x label fractions x seeds, on anyone's data.

In: a study file. Out: a result per cell, from which study.json takes every figure. A stopped study goes on.
"""

from scoutview.study.cells import Study, task_parts
from scoutview.study.fractions import labelled_part
from scoutview.study.grid import run_grid
from scoutview.study.plan import StudyPlan, load_plan
from scoutview.study.summary import summarise

__all__ = ["Study", "StudyPlan", "labelled_part", "load_plan", "run_grid", "summarise", "task_parts"]
