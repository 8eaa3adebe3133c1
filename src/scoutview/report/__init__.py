"""In: the files of run folders, or counts and pictures in memory. Out: one offline HTML page, or one PNG sheet.

Reads files only and never a store or a network; a missing or torn file becomes a sentence on the page.
Public: `write_report`, `write_study_report`, `write_archive_page` with what it shows, `view_sheet`.
"""

from scoutview.report.archive_page import Sheet, Thumbnail, Tile, write_archive_page
from scoutview.report.page import write_report
from scoutview.report.sheets import view_sheet
from scoutview.report.study import write_study_report

__all__ = ["Sheet", "Thumbnail", "Tile", "view_sheet", "write_archive_page", "write_report", "write_study_report"]
