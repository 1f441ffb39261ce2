"""The pages of the dashboard, in the order in which the navigation shows them; those without title it leaves out."""

from sync.web.pages.changes import PAGE as CHANGES
from sync.web.pages.compare import PAGE as COMPARE
from sync.web.pages.image import PAGE as IMAGE
from sync.web.pages.instance_type import PAGE as INSTANCE_TYPE
from sync.web.pages.matrix import PAGE as MATRIX
from sync.web.pages.overview import PAGE as OVERVIEW
from sync.web.pages.search import PAGE as SEARCH
from sync.web.pages.timeline import PAGE as TIMELINE
from sync.web.visit import Page

PAGES: tuple[Page, ...] = (OVERVIEW, TIMELINE, MATRIX, CHANGES, COMPARE, SEARCH, IMAGE, INSTANCE_TYPE)
