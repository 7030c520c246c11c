"""Data to train and measure supernets with. One file, one source."""

SHORT_NAMES = {
    "digits": "supernet.data.digits:Digits",
    "fashion_mnist": "supernet.data.fashion_mnist:FashionMnist",
    "reviews": "supernet.data.reviews:Reviews",
}
"""What short names in YAML stand for."""
