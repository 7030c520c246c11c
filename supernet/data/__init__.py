"""Data sets for training and evaluation. One file, one source."""

SHORT_NAMES = {
    "csv": "supernet.data.csv_file:CsvFile",
    "digits": "supernet.data.digits:Digits",
    "fashion_mnist": "supernet.data.fashion_mnist:FashionMnist",
    "huggingface": "supernet.data.hugging_face:HuggingFace",
    "images": "supernet.data.images:Images",
    "reviews": "supernet.data.reviews:Reviews",
}
"""The sources that short names in YAML refer to."""
