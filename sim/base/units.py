"""Units of time: integer nanoseconds internally, milliseconds and seconds in user-facing text and files."""

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


def ns_from_ms(milliseconds: float) -> int:
    """Return milliseconds as the nearest whole nanosecond.

    Examples:
        >>> ns_from_ms(4.4)
        4400000
    """
    return round(milliseconds * NS_PER_MS)


def ns_from_s(seconds: float) -> int:
    """Return seconds as the nearest whole nanosecond.

    Examples:
        >>> ns_from_s(0.0833)
        83300000
    """
    return round(seconds * NS_PER_S)


def ms_from_ns(nanoseconds: int) -> float:
    """Return nanoseconds as milliseconds; `ns_from_ms` gives the same integer back."""
    return nanoseconds / NS_PER_MS


def format_ms(nanoseconds: int) -> str:
    """Return nanoseconds in milliseconds, exactly, for a message.

    Examples:
        >>> format_ms(-12_300_000), format_ms(4_400_001), format_ms(36_000_000)
        ('-12.3 ms', '4.400001 ms', '36 ms')
    """
    return f"{ms_from_ns(nanoseconds):.6f}".rstrip("0").rstrip(".") + " ms"
