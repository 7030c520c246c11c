from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from benchmarks import ofa_peer
from sim.base.errors import SpecError
from sim.base.parameters import check_parameters
from sim.base.streams import stream
from supernet.discovery import find_structure
from supernet.families import FAMILIES, DynaBert, OfaResNet50, OfaResNetSmall
from supernet.families.ofa import divisible
from supernet.families.resnet import plain_resnet
from supernet.family import build
from supernet.insertion import insert
from supernet.statistics import leading_statistics
from tests.supernet.built import SMALL, TINY_BERT, dynabert_on_meta, ofa_on_meta, pictures, small


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_keeps_to_what_a_family_is(name: str) -> None:
    family = FAMILIES[name]()
    check_parameters(family)
    assert family.space.family == name
    supernet = build(family, device="meta")
    smallest, largest = (supernet.active_config(subnet) for subnet in (supernet.space.smallest, supernet.space.largest))
    assert all(largest.active_blocks)
    assert not all(smallest.active_blocks) or not smallest.active_blocks  # none of its layers can be left out
    assert smallest != largest
    assert hash(family) == hash(FAMILIES[name]())


def test_ofa_resnet50_has_the_published_space() -> None:
    space = OfaResNet50().space
    assert (len(space.depths), len(space.expands), len(space.widths)) == (5, 18, 6)
    assert space.size == 2 * 3**4 * 3**18 * 3**6
    assert f"{space.size:.1e}" == "4.6e+13"


def test_ofa_resnet50_skips_blocks_and_the_stem_as_coded() -> None:
    supernet = ofa_on_meta()
    stem_and_18 = [0, 4, 4, 6, 4]

    def running(depths: str) -> list[int]:
        runs = iter(supernet.active_config(f"ofa_resnet50:{depths}:e0.2x18:w0x6").active_blocks)
        return [next(runs), *(sum(next(runs) for _ in range(count)) for count in stem_and_18[1:])]

    assert running("d0x5") == [False, 2, 2, 4, 2]
    assert running("d2x5") == [True, 4, 4, 6, 4]
    assert running("d2,0,1,2,1") == [True, 2, 3, 6, 3]


def test_dynabert_has_twelve_subnets() -> None:
    supernet = dynabert_on_meta()
    assert supernet.space.size == 12
    network = supernet.actuate("dynabert:d9:e0.25")
    assert sum(any(True for _ in layer.parameters()) for layer in network.encoder["layer"]) == 9
    assert network.encoder["layer"][0].attention["self"].query.weight.shape == (192, 768)
    assert network.encoder["layer"][0].intermediate["dense"].out_features == 768


def test_the_structure_of_a_narrow_twin_is_that_of_the_network() -> None:
    for family in (SMALL, TINY_BERT):
        supernet = build(family)
        assert supernet.structure == find_structure(supernet.model, family.example())


def test_a_family_is_no_more_than_its_network_with_operators_inserted() -> None:
    """What a family has of its own is how a control tuple is read."""
    supernet = build(SMALL)
    inserted = insert(supernet.model, SMALL.example(2), widths=(0.5, 1.0))
    assert inserted.structure == supernet.structure


def test_operators_are_inserted_into_ofa_resnet50() -> None:
    """Into the network as it is, in a sixteenth of the width: nothing is told of what is in it."""
    supernet = insert(OfaResNet50(classes=5).network(width_divisor=16), OfaResNet50().example(), widths=(0.5, 1.0))
    assert [len(stage) for stage in supernet.structure.stages] == [1, 3, 3, 5, 3]
    assert (len(supernet.space.expands), len(supernet.space.widths)) == (18, 6)


def test_a_small_network_takes_small_images() -> None:
    for family, size in ((OfaResNetSmall(), 28), (OfaResNetSmall(), 8), (OfaResNetSmall(channels=3), 32)):
        supernet = build(family)
        (x,) = family.example(2, size)
        assert supernet(x.normal_(), supernet.space.smallest).shape == (2, 10)


def test_the_smallest_of_the_small_has_an_eighth_of_the_width() -> None:
    supernet = build(OfaResNetSmall())
    network = supernet.actuate(supernet.space.smallest)
    assert [block.conv2.conv.out_channels for block in network.blocks if not isinstance(block, nn.Identity)] == [
        2,
        4,
        8,
    ]


def test_weights_depend_on_the_seed_alone() -> None:
    state = torch.random.get_rng_state()
    one, same, other = (build(SMALL, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    name = "model.classifier.linear.weight"
    assert torch.equal(one[name], same[name])
    assert not torch.equal(one[name], other[name])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"classes": 0}, r"DynaBert.classes: is out of range \(0\)"),
        ({"hidden": 100}, r"dynabert.hidden: not divisible by the heads \(100\); a multiple of 12"),
        ({"layers": 8}, r"dynabert.depths: do not end with all layers \(\(6, 9, 12\)\); ending with 8"),
        ({"depths": (0, 12)}, "dynabert.depths: do not end"),
    ],
)
def test_options_that_do_not_fit_are_told(options: dict[str, int], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        DynaBert(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layers", "parameters"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)]
)
def test_hand_tuned_resnets_have_the_known_sizes(layers: int, parameters: int) -> None:
    """The sizes that torchvision's documentation gives."""
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in plain_resnet(layers).parameters()) == parameters


@example(11, 8)
@given(st.integers(1, 5000), st.integers(1, 16))
def test_a_divisible_number_is_near(channels: int, divisor: int) -> None:
    found = divisible(channels, divisor)
    assert found % divisor == 0
    assert found >= divisor
    assert 0.9 * channels <= found <= max(divisor, channels + divisor)


def test_an_unused_middle_costs_nothing() -> None:
    supernet = small().eval()
    subnet = "ofa_resnet_small:d0x3:e0.5x9:w1x3"
    supernet.set_statistics(subnet, leading_statistics(supernet, subnet))
    assert supernet(pictures(), subnet).shape == (3, 10)


@pytest.mark.skipif(not ofa_peer.is_installed(), reason="the package ofa is not installed")
def test_all_subnets_compute_what_those_of_once_for_all_do() -> None:
    """The same weights copied in, under their original names: the same outputs, with the peer's shared statistics."""
    peer = ofa_peer.ofa_resnet50(classes=7).eval()
    family = OfaResNet50(classes=7)
    generator = torch.Generator().manual_seed(0)
    state = peer.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif name.endswith("running_mean"):
            tensor.normal_(std=0.1, generator=generator)
    supernet = build(family).eval()
    own = {name: state[family.original_names(name)[0]] for name in supernet.model.state_dict()}
    assert len(own) == len(state)
    supernet.model.load_state_dict(own)
    for module in supernet.assembly.norms:
        supernet.model.get_submodule(module).num_batches_tracked += 1
    (x,) = family.example(1, 64)
    x.normal_(generator=generator)
    rng = stream(0, "peer")
    with torch.no_grad():
        for subnet in (
            supernet.space.smallest,
            supernet.space.largest,
            *(supernet.space.sample(rng) for _ in range(4)),
        ):
            supernet.set_statistics(subnet, leading_statistics(supernet, subnet))
            ofa_peer.activate(peer, subnet)
            expected, found = peer(x), supernet(x, subnet)
            assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max())), subnet


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_the_choice_of_a_control_tuple_fits_the_network(seed: int) -> None:
    supernet = ofa_on_meta()
    config = supernet.active_config(supernet.space.sample(stream(seed, "test")))
    for group, units in zip(supernet.structure.groups, config.active_units, strict=True):
        runs = group.block is None or config.active_blocks[group.block]
        assert (0 < units <= group.units) if runs else units == 0
