"""Sizes and numbers → text for people to read."""


def format_bytes(size: float) -> str:
    """A size for people to read, in units of 1000, with three or four digits."""
    if size < 999.5:
        return f"{size:.0f} byte{'' if round(size) == 1 else 's'}"
    units = ("kB", "MB", "GB", "TB", "PB", "EB")
    size /= 1000
    for unit in units[:-1]:
        if size < 999.95:  # which is printed with one digit after the point
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {units[-1]}"
