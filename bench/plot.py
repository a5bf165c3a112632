"""Draws latency against load from the figures of scripts/bench.

It reads the file that `--json` has written and draws the part `curve`: a colour for each
server, p50 solid and p99 dashed. Without that part it writes nothing and says nothing.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

# Told apart with any colour vision; the shapes help in print.
COLOURS = ["#0072B2", "#56B4E9", "#000000", "#E69F00", "#D55E00"]
MARKERS = ["o", "s", "^", "D", "v"]


def curve(figures: dict) -> dict | None:
    """The table of the part, if it ran to its end."""
    tables = figures["parts"].get("curve", {}).get("tables", [])
    return tables[0] if tables else None


def servers(table: dict) -> dict[str, list[tuple[float, float, float]]]:
    """Requests a second, p50 and p99 of each server, in the order of the table."""
    columns = [table["head"].index(name) for name in ("requests/s", "p50 ms", "p99 ms")]
    found = {}
    for row in table["rows"]:
        found.setdefault(row[0], []).append(tuple(float(row[at]) for at in columns))
    return found


def draw(table: dict, headline: list[str], file: Path) -> None:
    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    handles = []
    for (name, points), colour, marker in zip(servers(table).items(), COLOURS, MARKERS):
        rates, middle, tail = zip(*points)
        style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.6}
        (line,) = axes.plot(rates, middle, label=name, **style)
        axes.plot(rates, tail, linestyle="--", **style)
        handles.append(line)
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(plain)
    axes.xaxis.set_major_formatter(plain)
    axes.set_xlabel("requests/s")
    axes.set_ylabel("latency, ms")
    axes.set_title("jwt/validate: latency against load")
    axes.grid(which="major", color="#cccccc", linewidth=0.6)
    axes.grid(which="minor", axis="y", color="#eeeeee", linewidth=0.4)
    for percentile, line in (("p50", "-"), ("p99", "--")):
        handles.append(Line2D([], [], color="#666666", linestyle=line, label=percentile))
    figure.legend(handles=handles, loc="outside right upper")
    figure.supxlabel("\n".join(headline), fontsize=7, color="#666666")
    figure.savefig(file, dpi=150)


def main() -> int:
    if len(sys.argv) != 3:
        print("Usage: plot.py FIGURES.json PICTURE.png", file=sys.stderr)
        return 2
    figures = json.loads(Path(sys.argv[1]).read_text())
    table = curve(figures)
    if table is not None:
        draw(table, figures.get("headline", [])[:2], Path(sys.argv[2]))
        print(f"latency against load: {sys.argv[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
