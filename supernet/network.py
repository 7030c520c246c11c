"""The supernet: one copy of the weights, any subnet of it at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from sim.base.errors import DataError, SpecError
from supernet.assembly import Assembly, shells
from supernet.layers import is_dense, is_norm, tensors
from supernet.operators import Moments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from supernet.layers import Norm
    from supernet.space import SubNet, SubNetSpace
    from supernet.structure import Choice, Rule, Structure

_version = attrgetter("_version")


class Memory(NamedTuple):
    """What a supernet takes, in bytes, counted from its tensors.

    Attributes:
        weights: Shared weights, and buffers that are no statistics.
        statistics: Running means and variances of all subnets that have them.
        cache: Contiguous copies of slices.
    """

    weights: int
    statistics: int
    cache: int


class _Ready(NamedTuple):
    """A subnet that is ready to run, and the slices that it holds copies of."""

    network: nn.Module
    copied: tuple[torch.Tensor, ...] = ()
    copies_bytes: int = 0
    versions: int = 0

    def is_current(self) -> bool:
        """Return whether no weight has changed since it was copied."""
        return not self.copied or sum(map(_version, self.copied)) == self.versions


class Supernet(nn.Module):
    """A network of which any subnet runs at once: one after the other, or several at the same time.

    `supernet(x, subnet)` runs a subnet. `supernet.actuate(subnet)` gives it as a module of the original's class, on
    views of the shared weights; that is put together once and looked up from then on, and to run it is all that
    running a subnet costs. It can be compiled, exported and captured, and gradients flow to the shared weights.

    Running statistics are a subnet's own: in evaluation mode, one that has none is refused (`supernet.statistics`
    takes them). Those in the shared network are the largest subnet's until it gets others. In training mode each
    batch is normalised by itself, and no running statistics change.

    Attributes:
        model: The shared network; its parameters keep their names.
        structure: What can be chosen in it.
        space: The subnets.
        rule: What turns a control tuple into a choice.
        assembly: The operators.

    Args:
        model: Becomes the supernet's own.
        structure: Found in the model by `supernet.dye`.
        space: What control tuples there are.
        rule: Knows what they stand for.
        held: As many subnets stay ready; of more, the least recently used has to be put together anew.
        cache_bytes: As many bytes as contiguous copies of slices may take, in evaluation mode, for the subnets used
            last. 0 for none: all subnets then run on views.

    Raises:
        SpecError: No subnet is to stay ready, or the cache is to have less than nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        structure: Structure,
        space: SubNetSpace,
        rule: Rule,
        *,
        held: int = 64,
        cache_bytes: int = 0,
    ) -> None:
        super().__init__()
        if held < 1 or cache_bytes < 0:
            value, right = f"{held}, {cache_bytes}", "one or more, 0 or more"
            raise SpecError(f"{space.family}, held and cache_bytes", "are out of range", value, right)
        self.model = model
        self.structure, self.space, self.rule = structure, space, rule
        self.assembly = Assembly(model, structure)
        self.held, self.cache_bytes = held, cache_bytes
        self._statistics: dict[str, torch.Tensor] = {}
        self._start_anew()

    def forward(self, inputs: Any, subnet: SubNet | str, *args: Any, **kwargs: Any) -> Any:
        """Return what a subnet makes of the inputs; further arguments go to the network as they are.

        Raises:
            SpecError: There is no such subnet, or it has no statistics, or is to be trained on a batch of one.
        """
        if self.training:
            self.check_batch(inputs)
        return self.actuate(subnet)(inputs, *args, **kwargs)

    def check_batch(self, inputs: Any) -> None:
        """Pass if a batch can be normalised by itself.

        Raises:
            SpecError: It is of one, and there are norm layers.
        """
        shape = next((tuple(t.shape) for t in tensors(inputs)), ())
        if self.assembly.norms and shape and shape[0] == 1:
            raise SpecError("batch", "has one example only", f"shape {shape}", "two or more, to be normalised by")

    def actuate(self, subnet: SubNet | str) -> nn.Module:
        """Return a subnet, ready to run; from the second time on, this is a look-up.

        The module follows the weights when their values change. After a change of mode, device or dtype, ask again.

        Args:
            subnet: Itself or its id.

        Raises:
            SpecError: There is no such subnet, or it has no statistics.
        """
        key = subnet if isinstance(subnet, str) else subnet.id
        with self._lock:
            ready = self._ready.get(key)
            if ready is not None and ready.is_current():
                self._ready.move_to_end(key)
                return ready.network
        ready = self._put_together(subnet)
        with self._lock:
            self._ready.pop(key, None)
            self._ready[key] = ready
            while len(self._ready) > self.held or self._copies_bytes() > self.cache_bytes:
                self._ready.popitem(last=False)
        return ready.network

    def choice(self, subnet: SubNet | str) -> Choice:
        """Return what a subnet uses of the network; two of one choice are the same network.

        Raises:
            SpecError: There is no such subnet.
        """
        return self.rule.choose(self.space.find(subnet).control)

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The ids of the subnets that have running statistics."""
        own = (self.space.largest.id,) if self._own_moments() else ()
        return tuple(dict.fromkeys((*own, *self._statistics)))

    def statistics_of(self, subnet: SubNet | str) -> torch.Tensor:
        """Return the running statistics of a subnet: first the means of all its norm layers, then the variances.

        Raises:
            SpecError: There is no such subnet, or it has none.
        """
        found = self.space.find(subnet)
        moments = self._moments(found, self.choice(found)).values()
        return torch.cat([m.mean for m in moments] + [m.variance for m in moments])

    def set_statistics(self, subnet: SubNet | str, statistics: torch.Tensor) -> None:
        """Give a subnet its running statistics, in place of those that it had.

        Args:
            subnet: Itself or its id.
            statistics: As `statistics_of` returns them; is copied.

        Raises:
            SpecError: There is no such subnet.
            DataError: There are too many or too few, or some are no finite numbers.
        """
        found = self.space.find(subnet)
        where, expected = f"statistics of {found.id}", 2 * sum(self.assembly.norm_sizes(self.choice(found)).values())
        if statistics.shape != (expected,):
            raise DataError(where, "have the wrong shape", str(tuple(statistics.shape)), f"({expected},)")
        if not statistics.is_meta and not statistics.isfinite().all():
            raise DataError(where, "are not all finite", f"{int(statistics.isfinite().logical_not().sum())} are not")
        self._statistics[found.id] = statistics.detach().to(next(self.parameters()), copy=True)
        with self._lock:
            self._ready.pop(found.id, None)

    def forget_statistics(self) -> None:
        """Drop all statistics, since the weights have changed with which they were taken."""
        self._statistics.clear()
        for norm in self._norms().values():
            norm.reset_running_stats()
        self._start_anew()

    def memory(self) -> Memory:
        """Return how many bytes the supernet takes now."""
        own = sum(t.nbytes for moments in self._own_moments().values() for t in moments)
        everything = sum(t.nbytes for t in (*self.model.parameters(), *self.model.buffers()))
        statistics = sum(t.nbytes for t in self._statistics.values())
        return Memory(everything - own, own + statistics, self._copies_bytes())

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; subnets that were ready for the other have to be asked for again."""
        if mode != self.training:
            self._start_anew()
        return super().train(mode)

    def get_extra_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return what a state dict holds beside the weights: the running statistics of each subnet."""
        return {"statistics": dict(self._statistics)}

    def set_extra_state(self, state: dict[str, dict[str, torch.Tensor]]) -> None:
        """Take the running statistics out of a state dict.

        Raises:
            SpecError: They are those of a subnet that there is not.
            DataError: They are too many or too few, or some are no finite numbers.
        """
        self._statistics.clear()
        self._start_anew()
        for subnet, statistics in state["statistics"].items():
            self.set_statistics(subnet, statistics)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made from: subnets that are ready are views of these weights, and stay here."""
        return {name: value for name, value in vars(self).items() if name not in {"_ready", "_lock"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call] # torch's has no annotations
        self._start_anew()

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Move or convert everything, as `to` and its like do; subnets that were ready stay behind."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's has no annotations
        self._statistics = {subnet: fn(statistics) for subnet, statistics in self._statistics.items()}
        self._start_anew()
        return self

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._ready: OrderedDict[str, _Ready] = OrderedDict()

    def _put_together(self, subnet: SubNet | str) -> _Ready:
        found = self.space.find(subnet)
        choice = self.choice(found)
        network = self.assembly.view(self.model, choice, {} if self.training else self._moments(found, choice))
        if self.training or not self.cache_bytes:
            return _Ready(network)
        cut = [
            (vars(part)["_buffers"], name, slice_)
            for part in shells(network, self.model)
            for name, slice_ in part.named_buffers(recurse=False)
            if not is_dense(slice_)
        ]
        needed = sum(slice_.nbytes for _, _, slice_ in cut)
        if needed > self.cache_bytes:
            return _Ready(network)
        slices = tuple(slice_ for _, _, slice_ in cut if not slice_.is_inference())  # those have no version
        versions = sum(map(_version, slices))
        for buffers, name, slice_ in cut:
            buffers[name] = slice_.clone()
        return _Ready(network, slices, needed, versions)

    def _copies_bytes(self) -> int:
        return sum(ready.copies_bytes for ready in self._ready.values())

    def _moments(self, subnet: SubNet, choice: Choice) -> Mapping[str, Moments]:
        """Return the running statistics of each norm layer that a subnet runs.

        Raises:
            SpecError: It has none.
        """
        sizes = self.assembly.norm_sizes(choice)
        statistics = self._statistics.get(subnet.id)
        if statistics is None:
            own = self._own_moments() if choice == self.choice(self.space.largest) else {}
            if sizes and not own:
                right = "calibrate it; or train, in training mode, on batches as they are"
                raise SpecError(f"subnet {subnet.id}", "has no running statistics", hint=right)
            return own
        parts = statistics.split([*sizes.values()] * 2)
        return {path: Moments(parts[n], parts[n + len(sizes)]) for n, path in enumerate(sizes)}

    def _own_moments(self) -> dict[str, Moments]:
        """Return the running statistics that the shared network came with, if it has seen any batch."""
        found: dict[str, Moments] = {}
        for path, norm in self._norms().items():
            if norm.running_mean is None or norm.running_var is None:
                return {}
            if norm.num_batches_tracked is not None and (norm.running_mean.is_meta or norm.num_batches_tracked == 0):
                return {}
            found[path] = Moments(norm.running_mean, norm.running_var)
        return found

    def _norms(self) -> dict[str, Norm]:
        modules = {path: self.model.get_submodule(path) for path in self.assembly.norms}
        return {path: module for path, module in modules.items() if is_norm(module)}
