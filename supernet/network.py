"""The supernet: one copy of the weights that runs any subnet at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from sim.base.errors import DataError, SpecError
from supernet.assembly import Assembly, subnet_modules
from supernet.layers import is_dense, is_norm, tensors
from supernet.operators import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from supernet.calls import Call
    from supernet.layers import Norm
    from supernet.space import SubnetConfig, SubnetSpace
    from supernet.structure import ActiveConfig, Decoder, Structure

_version = attrgetter("_version")


class MemoryUse(NamedTuple):
    """The memory of a supernet in bytes, counted from its tensors.

    Attributes:
        weights: Shared weights, and buffers other than statistics.
        statistics: Running means and variances of all calibrated subnets.
        cache: Contiguous copies of slices.
    """

    weights: int
    statistics: int
    cache: int


class _CachedSubnet(NamedTuple):
    """An assembled subnet, and the slices that it has copies of."""

    network: nn.Module
    copied: tuple[torch.Tensor, ...] = ()
    copies_bytes: int = 0
    versions: int = 0

    def is_current(self) -> bool:
        """Return whether no copied weight has changed since."""
        return not self.copied or sum(map(_version, self.copied)) == self.versions


class Supernet(nn.Module):
    """A network that runs any of its subnets at once: one after the other, or several at the same time.

    `supernet(x, subnet)` runs a subnet. `supernet.actuate(subnet)` returns it as a module of the original's class, on
    views of the shared weights; it is assembled once and then looked up, and running it costs no more than its forward
    pass. It can be compiled, exported and captured, and gradients flow to the shared weights.

    Running statistics belong to a subnet: in evaluation mode, a subnet without them is refused (`supernet.statistics`
    computes them). Those of the shared network are the largest subnet's until it is calibrated. In training mode, norms
    use the statistics of each batch, and no running statistics change.

    Attributes:
        model: The shared network; its parameters keep their names.
        structure: Its sliceable parts.
        space: The subnets.
        decoder: Maps control tuples to configurations.
        assembly: The operators.
        example: The arguments with which operators were inserted; None for a family.

    Args:
        model: Becomes part of the supernet, which starts in its mode.
        structure: Of the model, as `supernet.discovery` finds it.
        space: The control tuples.
        decoder: Maps them to configurations.
        max_cached: Capacity of the LRU cache of assembled subnets.
        cache_bytes: Capacity of the LRU cache of contiguous copies of slices, in evaluation mode; 0 for none, and all
            subnets run on views.

    Raises:
        SpecError: `max_cached` is below 1 or `cache_bytes` below 0.
    """

    def __init__(
        self,
        model: nn.Module,
        structure: Structure,
        space: SubnetSpace,
        decoder: Decoder,
        *,
        max_cached: int = 64,
        cache_bytes: int = 0,
    ) -> None:
        super().__init__()
        if max_cached < 1 or cache_bytes < 0:
            value, hint = f"{max_cached}, {cache_bytes}", "at least 1, at least 0"
            raise SpecError(f"{space.family}, max_cached and cache_bytes", "out of range", value, hint)
        self.model = model
        self.training = model.training
        self.structure, self.space, self.decoder = structure, space, decoder
        self.assembly = Assembly(model, structure)
        self.example: Call | None = None
        self.max_cached, self.cache_bytes = max_cached, cache_bytes
        self._statistics: dict[str, torch.Tensor] = {}
        self._clear_cache()

    def forward(self, inputs: Any, subnet: SubnetConfig | str, *args: Any, **kwargs: Any) -> Any:
        """Return a subnet's output for the inputs; further arguments go to the network.

        Raises:
            SpecError: The subnet is unknown or has no statistics; or, in training mode, the batch has one example.
        """
        if self.training:
            self.check_batch(inputs)
        return self.actuate(subnet)(inputs, *args, **kwargs)

    def check_batch(self, inputs: Any) -> None:
        """Check that norm layers can compute the statistics of a batch.

        Raises:
            SpecError: There are norm layers, and the batch has one example.
        """
        shape = next((tuple(t.shape) for t in tensors(inputs)), ())
        if self.assembly.norms and shape and shape[0] == 1:
            raise SpecError("batch", "has only one example", f"shape {shape}", "two or more, for the norm layers")

    def actuate(self, subnet: SubnetConfig | str) -> nn.Module:
        """Return a subnet, ready to run; from the second call on, this is a look-up.

        The module follows changes of the weights' values. After a change of mode, device or dtype, actuate again.

        Args:
            subnet: A subnet or its id.

        Raises:
            SpecError: The subnet is unknown, or has no statistics.
        """
        key = subnet if isinstance(subnet, str) else subnet.id
        with self._lock:
            cached = self._cache.get(key)
            if cached is not None and cached.is_current():
                self._cache.move_to_end(key)
                return cached.network
        cached = self._assemble(subnet)
        with self._lock:
            self._cache.pop(key, None)
            self._cache[key] = cached
            while len(self._cache) > self.max_cached or self._copies_bytes() > self.cache_bytes:
                self._cache.popitem(last=False)
        return cached.network

    def active_config(self, subnet: SubnetConfig | str) -> ActiveConfig:
        """Return the blocks and units of a subnet; subnets of equal configuration are the same network.

        Raises:
            SpecError: The subnet is unknown.
        """
        return self.decoder.decode(self.space.find(subnet).control)

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The ids of the subnets that have running statistics."""
        largest = (self.space.largest.id,) if self._shared_moments() else ()
        return tuple(dict.fromkeys((*largest, *self._statistics)))

    def statistics_of(self, subnet: SubnetConfig | str) -> torch.Tensor:
        """Return the running statistics of a subnet: the means of all its norm layers, then the variances.

        Raises:
            SpecError: The subnet is unknown, or has none.
        """
        subnet = self.space.find(subnet)
        moments = self._moments(subnet, self.active_config(subnet)).values()
        return torch.cat([m.mean for m in moments] + [m.variance for m in moments])

    def set_statistics(self, subnet: SubnetConfig | str, statistics: torch.Tensor) -> None:
        """Set the running statistics of a subnet.

        Args:
            subnet: A subnet or its id.
            statistics: As `statistics_of` returns them; copied.

        Raises:
            SpecError: The subnet is unknown.
            DataError: The statistics have the wrong shape, or are not all finite.
        """
        subnet = self.space.find(subnet)
        where = f"statistics of {subnet.id}"
        expected = 2 * sum(self.assembly.norm_sizes(self.active_config(subnet)).values())
        if statistics.shape != (expected,):
            raise DataError(where, "wrong shape", str(tuple(statistics.shape)), f"({expected},)")
        if not statistics.is_meta and not statistics.isfinite().all():
            value = f"{int(statistics.isfinite().logical_not().sum())} of {expected} are not"
            raise DataError(where, "not all finite", value)
        self._statistics[subnet.id] = statistics.detach().to(next(self.parameters()), copy=True)
        with self._lock:
            self._cache.pop(subnet.id, None)

    def forget_statistics(self) -> None:
        """Drop the statistics of all subnets, for instance because the weights have changed."""
        self._statistics.clear()
        for norm in self._norms().values():
            norm.reset_running_stats()
        self._clear_cache()

    def memory(self) -> MemoryUse:
        """Return the current memory of the supernet in bytes."""
        shared = sum(t.nbytes for moments in self._shared_moments().values() for t in moments)
        total = sum(t.nbytes for t in (*self.model.parameters(), *self.model.buffers()))
        statistics = sum(t.nbytes for t in self._statistics.values())
        return MemoryUse(total - shared, shared + statistics, self._copies_bytes())

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; subnets actuated in another mode have to be actuated again."""
        if any(module.training != mode for module in self.modules()):
            self._clear_cache()
        return super().train(mode)

    def get_extra_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the part of a state dict beside the weights: the running statistics of each subnet."""
        return {"statistics": dict(self._statistics)}

    def set_extra_state(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        """Set the running statistics of a state dict.

        Raises:
            SpecError: A subnet is unknown.
            DataError: Statistics have the wrong shape, or are not all finite.
        """
        self._statistics.clear()
        self._clear_cache()
        for subnet, statistics in state["statistics"].items():
            self.set_statistics(subnet, statistics)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy: without assembled subnets, which are views of these weights."""
        return {name: value for name, value in vars(self).items() if name not in {"_cache", "_lock"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call] # torch's has no annotations
        self._clear_cache()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Move or convert all tensors, as `to` does; subnets have to be actuated again."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's has no annotations
        self._statistics = {subnet: fn(statistics) for subnet, statistics in self._statistics.items()}
        self._clear_cache()
        return self

    def _clear_cache(self) -> None:
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, _CachedSubnet] = OrderedDict()

    def _assemble(self, subnet: SubnetConfig | str) -> _CachedSubnet:
        subnet = self.space.find(subnet)
        config = self.active_config(subnet)
        network = self.assembly.view(self.model, config, {} if self.training else self._moments(subnet, config))
        if self.training or not self.cache_bytes:
            return _CachedSubnet(network)
        views = [
            (vars(part)["_buffers"], name, slice_)
            for part in subnet_modules(network, self.model)
            for name, slice_ in part.named_buffers(recurse=False)
            if not is_dense(slice_)
        ]
        needed = sum(slice_.nbytes for _, _, slice_ in views)
        if needed > self.cache_bytes:
            return _CachedSubnet(network)
        slices = tuple(slice_ for _, _, slice_ in views if not slice_.is_inference())  # those have no version
        versions = sum(map(_version, slices))
        for buffers, name, slice_ in views:
            buffers[name] = slice_.clone()
        return _CachedSubnet(network, slices, needed, versions)

    def _copies_bytes(self) -> int:
        return sum(cached.copies_bytes for cached in self._cache.values())

    def _moments(self, subnet: SubnetConfig, config: ActiveConfig) -> Mapping[str, Moments]:
        """Return the running statistics of each active norm layer of a subnet.

        Raises:
            SpecError: It has none.
        """
        sizes = self.assembly.norm_sizes(config)
        statistics = self._statistics.get(subnet.id)
        if statistics is None:
            shared = self._shared_moments() if config == self.active_config(self.space.largest) else {}
            if sizes and not shared:
                hint = "calibrate it, or use training mode"
                raise SpecError(f"subnet {subnet.id}", "has no running statistics", hint=hint)
            return shared
        parts = statistics.split([*sizes.values()] * 2)
        return {path: Moments(parts[n], parts[n + len(sizes)]) for n, path in enumerate(sizes)}

    def _shared_moments(self) -> dict[str, Moments]:
        """Return the running statistics of the shared network; none if all have their first values."""
        moments: dict[str, Moments] = {}
        for path, norm in self._norms().items():
            if norm.running_mean is None or norm.running_var is None:
                return {}
            if norm.running_mean.is_meta or not _is_calibrated(norm):
                return {}
            moments[path] = Moments(norm.running_mean, norm.running_var)
        return moments

    def _norms(self) -> dict[str, Norm]:
        modules = {path: self.model.get_submodule(path) for path in self.assembly.norms}
        return {path: module for path, module in modules.items() if is_norm(module)}


def _is_calibrated(norm: Norm) -> bool:
    """Return whether a norm layer has seen data, or was given statistics, whatever its counter says."""
    if norm.num_batches_tracked is None or norm.num_batches_tracked > 0:
        return True
    return bool((norm.running_mean != 0).any() or (norm.running_var != 1).any())  # type: ignore[union-attr]
