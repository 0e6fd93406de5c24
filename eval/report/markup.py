"""Text, tables and data as HTML; every name is escaped, and cannot turn the direction of its neighbours."""

import base64
import math
from collections.abc import Sequence
from html import escape

from stemwright.eval.report.tables import MISSING, Table

__all__ = ["attribute", "data_address", "name", "sortable_table", "table_markup"]


def name(text: str) -> str:
    """Return text from elsewhere, on its own in the direction of writing."""
    return f"<bdi>{escape(text)}</bdi>"


def attribute(text: str) -> str:
    """Return text as the value of an attribute, with its quotes."""
    return f'"{escape(text)}"'


def data_address(data: bytes, media_type: str) -> str:
    """Return data as an address that needs no server, quoted."""
    return f'"data:{media_type};base64,{base64.b64encode(data).decode()}"'


def table_markup(table: Table) -> str:
    """Return a table with its notes; its first column heads its rows."""
    numeric = [_numeric(table, index) for index in range(len(table.header))]
    heads = "".join(
        f"<th scope=col{_class(right)}>{name(head)}</th>"
        for head, right in zip(table.header, numeric, strict=True)
    )
    rows = "\n".join(_row(row, numeric, table.decimals) for row in table.rows)
    notes = "".join(f'<p class="quiet">{name(note)}</p>' for note in table.notes)
    return (
        f"<h3>{name(table.title)}</h3>\n{_scrolled(table.title)}<table><thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>\n{notes}"
    )


def sortable_table(table: Table, identifier: str) -> str:
    """Return a table whose heads are buttons that sort it, below a field that picks rows."""
    numeric = [_numeric(table, index) for index in range(len(table.header))]
    heads = "".join(
        f"<th scope=col{_class(right)}><button type=button>{name(head)}</button></th>"
        for head, right in zip(table.header, numeric, strict=True)
    )
    rows = "\n".join(_row(row, numeric, table.decimals) for row in table.rows)
    notes = "".join(f'<p class="quiet">{name(note)}</p>' for note in table.notes)
    return (
        f"<p><label>Show rows with <input type=search data-table={identifier}></label></p>\n"
        f"{_scrolled(table.title)}<table class=sortable id={identifier}><thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>\n{notes}"
    )


def _scrolled(title: str) -> str:
    # The keyboard scrolls only what can have its focus.
    return f'<div class="wide" role=region tabindex=0 aria-label={attribute(title)}>'


def _numeric(table: Table, index: int) -> bool:
    return index > 0 and bool(table.rows) and all(isinstance(row[index], int | float) for row in table.rows)


def _class(right: bool) -> str:
    return " class=number" if right else ""


def _row(row: Sequence[str | int | float], numeric: Sequence[bool], decimals: int) -> str:
    first, *others = row
    cells = "".join(_cell(cell, right, decimals) for cell, right in zip(others, numeric[1:], strict=True))
    return f'<tr><th scope=row class="name">{name(str(first))}</th>{cells}</tr>'


def _cell(cell: str | int | float, right: bool, decimals: int) -> str:
    if isinstance(cell, str):
        return f"<td{_class(right)}>{name(cell)}</td>"
    if math.isnan(cell):
        return f"<td{_class(right)} data-missing>{MISSING}</td>"
    text = str(cell) if isinstance(cell, int) else f"{cell:.{decimals}f}"
    return f'<td{_class(right)} data-value="{cell!r}">{text}</td>'
