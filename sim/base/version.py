"""The version of the toolkit, in the one place that setup.cfg and the manifests read."""

VERSION = "0.1.0"
