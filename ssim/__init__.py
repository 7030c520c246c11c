"""The face of the toolkit: experiment files, runs, stored results, the command line, and `ssim.run` for Python."""

TYPE_CHECKING = False  # `typing` itself takes time
if TYPE_CHECKING:
    from ssim.api import ExperimentResults, JobResults, load, run

__all__ = ["ExperimentResults", "JobResults", "load", "run"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module("ssim.api"), name)  # imported when asked for: the command line does without


def __dir__() -> list[str]:
    return [*globals(), *__all__]
