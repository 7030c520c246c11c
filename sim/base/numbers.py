"""Numbers in tables and messages."""


def format_decimals(value: float, decimals: int, sign: str = "") -> str:
    """Return a value with a number of decimals, or with one significant digit where these would show 0.

    Examples:
        >>> format_decimals(0.5, 2), format_decimals(0.0003, 2), format_decimals(0.0, 2), format_decimals(0.5, 2, "+")
        ('0.50', '0.0003', '0.00', '+0.50')
    """
    text = f"{value:{sign}.{decimals}f}"
    return f"{value:{sign}.1g}" if value and not float(text) else text
