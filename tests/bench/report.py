"""Samples, medians, the table and the picture."""
import os
import platform
import re
import statistics


class Results:
    """Samples by metric and server."""

    def __init__(self):
        self.samples = {}

    def add(self, metric, server, value):
        self.samples.setdefault(metric, {}).setdefault(server, []).append(value)

    def median(self, metric, server):
        values = self.samples.get(metric, {}).get(server)
        return statistics.median(values) if values else None

    def spread(self, metric, server):
        """Half of the range, in percent of the median."""
        values = self.samples.get(metric, {}).get(server, [])
        middle = statistics.median(values) if values else 0
        return (max(values) - min(values)) / 2 / middle * 100 if middle and len(values) > 1 else None


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def rows_of(results, goals):
    """goals: metric -> unit, yardstick (server), goal as text, test of (metastore, etcd, yardstick)."""
    rows = []
    for metric, (unit, yardstick, goal, test) in goals.items():
        ours = results.median(metric, "metastore")
        if ours is None:
            continue
        theirs = results.median(metric, "etcd")
        measure = results.median(metric, yardstick) if yardstick else None
        rows.append({
            "metric": metric, "unit": unit, "metastore": ours, "etcd": theirs,
            "ratio": ours / theirs if theirs else None,
            "yardstick": yardstick, "yardstick_value": measure,
            "yardstick_ratio": ours / measure if measure else None,
            "spread_percent": results.spread(metric, "metastore"),
            "goal": goal,
            "met": None if test is None or (yardstick in ("disk", "before") and measure is None)
            else bool(test(ours, theirs, measure)),
        })
    return rows


def print_table(rows):
    head = ["metric", "metastore", "etcd", "ratio", "yardstick", "ratio", "spread", "goal", ""]
    lines = [head]
    for r in rows:
        lines.append([
            r["metric"], f"{number(r['metastore'])} {r['unit']}",
            f"{number(r['etcd'])} {r['unit']}" if r["etcd"] is not None else "-",
            number(r["ratio"]),
            f"{r['yardstick']} {number(r['yardstick_value'])}" if r["yardstick_value"] else "-",
            number(r["yardstick_ratio"]),
            f"+-{r['spread_percent']:.0f}%" if r["spread_percent"] is not None else "-",
            r["goal"], {True: "met", False: "MISSED", None: ""}[r["met"]]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) if i in (0, 7) else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(line, widths))).rstrip())


def write_picture(rows, path, subtitle):
    """Bars for metastore, etcd and yardstick, each metric on a scale of its own."""
    colours = {"metastore": "#2a6fbb", "etcd": "#999999", "yardstick": "#d9a441"}
    left, width, bar, gap = 220, 520, 14, 16
    parts, y = [], 60
    for r in rows:
        bars = [("metastore", r["metastore"], "metastore")]
        if r["etcd"] is not None:
            bars.append(("etcd", r["etcd"], "etcd"))
        if r["yardstick_value"] is not None:
            bars.append((r["yardstick"], r["yardstick_value"], "yardstick"))
        largest = max(value for _, value, _ in bars)
        parts.append(f'<text x="{left - 10}" y="{y + 11}" text-anchor="end">{r["metric"]}</text>')
        for name, value, colour in bars:
            length = max(1, width * value / largest) if largest > 0 else 1
            parts.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="{bar}" '
                         f'fill="{colours[colour]}"/>')
            parts.append(f'<text x="{left + length + 6:.0f}" y="{y + 11}" fill="#444">'
                         f'{name} {number(value)} {r["unit"]}</text>')
            y += bar + 2
        y += gap
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{y}" '
                'font-family="sans-serif" font-size="12">\n'
                '<rect width="100%" height="100%" fill="white"/>\n'
                '<text x="20" y="24" font-size="16">metastore beside etcd</text>\n'
                f'<text x="20" y="42" fill="#444">{subtitle}</text>\n'
                + "\n".join(parts) + "\n</svg>\n")


def machine():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        model = re.search(r"^model name\s*: (.*)$", f.read(), re.M)
    return (f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, "
            f"Linux {platform.release()}")
