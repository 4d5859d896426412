"""What a method draws of its own runs with matplotlib, in the style of the page."""

from __future__ import annotations

import io
import re
import sys
from html import escape
from typing import TYPE_CHECKING, Any

from mer_lightning.studies.comparing import Contender

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mer_lightning.methods.base import MERMethod

# Told apart by people who are colour-blind, on white and on black (Okabe and Ito), and by their brightness.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F")
# What stands for the colours of the page, which differ in light and dark.
_PALE, _LINE = "#010203", "#010204"
_PAGE = {_PALE: "var(--pale)", _LINE: "var(--faint)"}
_PAGE |= {colour.lower(): f"var(--series-{number})" for number, colour in enumerate(_COLOURS, start=1)}


def figures_of_method(contender: Contender) -> dict[str, str]:
    """{caption: SVG} of what the method of these runs draws itself; nothing for most methods."""
    method = method_class(str(contender.runs[0].config["model"]["class_path"]))
    if method is None:
        return {}
    import matplotlib

    with matplotlib.rc_context(_style()):
        return {caption: svg(figure, caption) for caption, figure in method.figures(contender).items()}


def method_class(class_path: str) -> type[MERMethod] | None:
    """The class of a run's method, if this package has it or it is imported already: a run folder imports nothing."""
    from mer_lightning.methods.base import MERMethod, all_methods

    all_methods()  # imports the methods of this package
    module, _, name = class_path.rpartition(".")
    named = vars(sys.modules[module]).get(name) if module in sys.modules else None  # getattr could import more
    return named if isinstance(named, type) and issubclass(named, MERMethod) else None


def svg(figure: Figure, caption: str) -> str:
    """The figure as an element of a page, as wide as the page lets it be and in the page's colours."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    element = text.getvalue()
    opening, bracket, rest = element[element.index("<svg") :].partition(">")
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)  # a fixed size would not shrink
    opening += f' role="img" aria-label="{escape(caption)}"'
    return re.sub("|".join(_PAGE), lambda match: _PAGE[match[0]], opening + bracket + rest)


def _style() -> dict[Any, Any]:
    from cycler import cycler

    lines = dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color", "legend.edgecolor"), _LINE)
    texts = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), _PALE)
    return {
        **lines,
        **texts,
        "axes.prop_cycle": cycler(color=_COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.family": "sans-serif",
        "font.size": 9,
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text, in the page's type
        "svg.hashsalt": "report",  # the same names of clips each time
        "text.parse_math": False,  # a dollar in somebody's name begins no formula
    }
