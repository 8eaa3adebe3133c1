"""In: the files of run folders, or counts and pictures in memory. Out: one offline HTML page, or one PNG sheet.

Reads files only and never a store or a network; a missing or torn file becomes a sentence on the page.
Public: `write_report`, `write_study_report`, `write_archive_page`, `write_atlas_page` and `write_case_page` with
what they show, `thumbnail`, `view_sheet`.
"""

from scoutview.report.archive_page import Sheet, Thumbnail, Tile, write_archive_page
from scoutview.report.atlas_page import write_atlas_page
from scoutview.report.case_page import CASE_PAGE, CASE_PICTURES, Case, CaseBox, CaseScore, write_case_page
from scoutview.report.page import write_report
from scoutview.report.sheets import view_sheet
from scoutview.report.study import write_study_report
from scoutview.report.thumbnails import thumbnail

__all__ = [
    "CASE_PAGE",
    "CASE_PICTURES",
    "Case",
    "CaseBox",
    "CaseScore",
    "Sheet",
    "Thumbnail",
    "Tile",
    "thumbnail",
    "view_sheet",
    "write_archive_page",
    "write_atlas_page",
    "write_case_page",
    "write_report",
    "write_study_report",
]
