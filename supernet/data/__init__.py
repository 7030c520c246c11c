"""Data sets for training and evaluation. One file, one source."""

SHORT_NAMES = {
    "digits": "supernet.data.digits:Digits",
    "fashion_mnist": "supernet.data.fashion_mnist:FashionMnist",
    "reviews": "supernet.data.reviews:Reviews",
}
"""The sources that short names in YAML refer to."""
