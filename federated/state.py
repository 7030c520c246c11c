"""Model states: tensors by parameter name, and the arithmetic that federated training needs on them.

The state of a subnet holds, of each parameter that the subnet uses, the prefix slice that it uses. Control variates
travel with the parameters, under names that begin with `CONTROL`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sim.base.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

State = dict[str, torch.Tensor]
"""Tensors by parameter name."""

Memory = dict[str, Any]
"""What a worker keeps from round to round: plain values and tensors, in mappings and lists."""

CONTROL = "control:"
"""Prefix of the name of a control variate, which is sliced like its parameter."""


def prefix_slice(tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a view of the first `shape` elements of each dimension; the tensor itself if that is all of it."""
    return tensor if tensor.shape == shape else tensor[tuple(map(slice, shape))]


def padded(tensor: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """Return a copy, padded with zeros at the end of each dimension to at least the shape of `like`; None is empty."""
    shape = like.shape if tensor is None else tuple(map(max, tensor.shape, like.shape))
    enlarged = torch.zeros(shape, dtype=like.dtype)
    if tensor is not None:
        prefix_slice(enlarged, tensor.shape).copy_(tensor)
    return enlarged


def add_delta(state: Mapping[str, torch.Tensor], delta: Mapping[str, torch.Tensor], rate: float = 1.0) -> State:
    """Return a new state: `rate` times the delta is added, in float64, to the prefix slices that the delta covers."""
    new = dict(state)
    for name, part in delta.items():
        total = state[name].to(torch.float64, copy=True)
        prefix_slice(total, part.shape).add_(rate * part.to(torch.float64))
        new[name] = total.to(state[name].dtype)
    return new


def weighted_sum(states: Iterable[tuple[float, Mapping[str, torch.Tensor]]], like: Mapping[str, torch.Tensor]) -> State:
    """Return the weighted sum of full states, taken in float64, with the data types of `like`."""
    total = {name: torch.zeros(part.shape, dtype=torch.float64) for name, part in like.items()}
    for weight, state in states:
        for name, part in total.items():
            part.add_(state[name].to(torch.float64), alpha=weight)
    return {name: part.to(like[name].dtype) for name, part in total.items()}


def clip_norm(delta: State, max_norm: float) -> State:
    """Return a delta scaled down to an L2 norm, over all its parameters together, of at most `max_norm`."""
    norm = float(torch.sqrt(sum((part.to(torch.float64) ** 2).sum() for part in delta.values())))  # type: ignore[arg-type]
    return delta if norm <= max_norm else {name: part * (max_norm / norm) for name, part in delta.items()}


def split_controls(delta: Mapping[str, torch.Tensor]) -> tuple[State, State]:
    """Return the entries of parameters, and those of control variates under the names of their parameters."""
    parameters = {name: part for name, part in delta.items() if not name.startswith(CONTROL)}
    controls = {name.removeprefix(CONTROL): part for name, part in delta.items() if name.startswith(CONTROL)}
    return parameters, controls


def as_controls(state: State) -> State:
    """Return control variates under the names that they are sent with."""
    return {CONTROL + name: part for name, part in state.items()}


def check_state(state: Any, like: Mapping[str, torch.Tensor]) -> State:
    """Return a received state after validation.

    Raises:
        DataError: Names or shapes differ from those of `like`, or a value is not finite.
    """
    if not isinstance(state, dict) or set(state) != set(like):
        raise DataError("model", "parameter names differ", type(state).__name__, f"expected {len(like)} parameters")
    for name, part in state.items():
        if tuple(part.shape) != tuple(like[name].shape):
            hint = f"expected {tuple(like[name].shape)}"
            raise DataError(f"model, {name}", "wrong shape", str(tuple(part.shape)), hint)
        if not torch.isfinite(part).all():
            raise DataError(f"model, {name}", "not all values are finite")
    return state


def compact(state: Any) -> Any:
    """Return a state without views, which would be pickled with all of the tensors that they are views of."""
    if not isinstance(state, dict):
        return state
    return {name: part.clone() if _is_view(part) else part for name, part in state.items()}


def _is_view(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and part.untyped_storage().nbytes() > part.nbytes


def reduce_tensor(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Return how a tensor is pickled (`object.__reduce__`): by its bytes, which takes a fraction of torch's own way."""
    content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return _tensor, (content, tensor.dtype, tuple(tensor.shape))


def _tensor(content: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(content).view(dtype).reshape(shape)
