"""`python -m ssim` is the command `ssim`."""

from ssim.cli import main

main()
