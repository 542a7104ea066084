"""Texts of sizes, durations and numbers as the original prints them."""

from __future__ import annotations

_SIZE_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def format_size(amount_bytes: float) -> str:
    """``12B`` below 1 KiB, else one decimal with a binary unit: ``851.0MiB``."""
    size = int(amount_bytes)
    if abs(size) < 1024:
        return f"{size}B"
    power = min(len(_SIZE_UNITS), (abs(size).bit_length() - 1) // 10)
    return f"{size / 1024**power:.1f}{_SIZE_UNITS[power - 1]}"


def format_duration(seconds: float) -> str:
    """Whole seconds in Go's form: ``4s``, ``2m4s``, ``1h0m0s``."""
    whole = int(seconds)
    sign = "-" if whole < 0 else ""
    whole = abs(whole)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{secs}s"
    if minutes:
        return f"{sign}{minutes}m{secs}s"
    return f"{sign}{secs}s"


def format_general(value: float) -> str:
    """Go's ``%g`` of a float64: the shortest text that reads back, exponent from 1e6 or below 1e-4."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    text = repr(float(value))
    if "e" not in text and abs(value) < 1e6:
        return text
    mantissa = text.partition("e")[0]
    digits = len(mantissa.lstrip("-").replace(".", "").strip("0"))
    return f"{value:.{max(0, digits - 1)}e}"
