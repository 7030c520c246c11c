"""The top-level packages of the toolkit, listed once: setup.cfg and the settings of tools are compared with this."""

PACKAGES = ("sim", "policies", "supernet", "profiler", "topology", "federated", "serving", "figures", "ssim")
