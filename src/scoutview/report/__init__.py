"""In: the files of run folders, or pictures in memory. Out: one offline HTML page, or one PNG sheet.

Reads files only and never a store or a network; a missing or torn file becomes a sentence on the page.
Public: `write_report`, `write_study_report`, `view_sheet`.
"""

from scoutview.report.page import write_report
from scoutview.report.sheets import view_sheet
from scoutview.report.study import write_study_report

__all__ = ["view_sheet", "write_report", "write_study_report"]
