"""Writes the parity matrix as a document."""

from parity_claims import ENGINES


def summary(matrix):
    """A line for each engine and width."""
    widths = list(dict.fromkeys(width for _, _, width in matrix.rows))
    lines = []
    for engine in matrix.engines:
        for width in widths:
            cells = [cells[engine] for (_, _, w), cells in matrix.rows.items() if w == width and engine in cells]
            compared, different = sum(cell.compared for cell in cells), sum(cell.different for cell in cells)
            largest = max((cell.largest for cell in cells), default=0)
            lines.append(f"{ENGINES[engine]}, {width}: {compared} compared, {different} different, at most {largest} LSB")
    return lines


def document(facts, matrix, net_matrix, net_rows):
    return ""
