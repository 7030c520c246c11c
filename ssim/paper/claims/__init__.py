"""What SuperServe (NSDI 2025) claims, one small function a claim."""

from ssim.paper.claims import azure, cluster, supernet, synthetic

CLAIMS = (*azure.CLAIMS, *synthetic.CLAIMS, *cluster.CLAIMS, *supernet.CLAIMS)
"""In the order in which they are shown."""
