"""Packed features against torch's own rounding, against half a quantisation scale, and in several threads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from featcache.heads.packed import STEPS, Packed, pack

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
# Half a quantisation scale, plus the float32 rounding of a division by the scale and a multiplication with it.
HALF_A_STEP = 0.5 + STEPS * 2.0**-22

# z-scores: the largest of millions is far below 1000. Subnormal numbers are left out, because CPUs may flush them to 0.
values = st.floats(-1000, 1000, width=32, allow_subnormal=False).map(lambda value: value if abs(value) > 1e-30 else 0.0)
features = arrays(np.float32, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=values).map(torch.from_numpy)


@pytest.mark.parametrize("dtype", FLOATS)
@given(features=features)
def test_16_and_32_bits_come_back_as_torch_rounds_them(dtype: torch.dtype, features: Tensor) -> None:
    packed = pack(features, dtype)
    assert packed.values.dtype == dtype
    assert packed.step is None
    assert packed.num_frames == features.shape[1]
    assert torch.equal(packed.unpack(), features.to(dtype).float())


@given(features=features)
def test_8_bits_come_back_within_half_a_step_of_their_layer_and_dimension(features: Tensor) -> None:
    packed = pack(features, torch.int8)
    assert packed.values.dtype == torch.int8
    found = packed.unpack()
    step = features.abs().amax(dim=1, keepdim=True).double() / STEPS
    assert ((found.double() - features.double()).abs() <= HALF_A_STEP * step).all()
    assert not found[features == 0].any()
    assert (packed.values.abs().amax(dim=1) == STEPS)[features.abs().amax(dim=1) > 0].all()


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e-20])
def test_8_bits_hold_what_never_changes(value: float) -> None:
    found = pack(torch.full((2, 5, 3), value), torch.int8).unpack()
    torch.testing.assert_close(found, torch.full((2, 5, 3), value), rtol=2.0**-22, atol=0)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int8])
@pytest.mark.parametrize("chosen", [slice(None), slice(0, 1), slice(1, 3), slice(3, 4)])
def test_some_layers_are_a_view(dtype: torch.dtype, chosen: slice) -> None:
    packed = pack(torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0)), dtype)
    some = packed.layers(chosen)
    assert some.values.untyped_storage().data_ptr() == packed.values.untyped_storage().data_ptr()
    assert torch.equal(some.unpack().clone(), packed.unpack()[chosen])


def of_size(num_frames: int, value: float, dtype: torch.dtype) -> Packed:
    return pack(torch.full((2, num_frames, 3), value), dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8])
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_utterances_of_any_size_follow_one_another(dtype: torch.dtype, lengths: list[int]) -> None:
    for number, length in enumerate(lengths):
        found = of_size(length, number, dtype).unpack()
        assert found.shape == (2, length, 3)
        assert found.is_contiguous()
        # The tolerance is for the rounding of 127 quantisation scales of 1/127 each.
        torch.testing.assert_close(found, torch.full((2, length, 3), float(number)), rtol=2.0**-22, atol=0)


def test_what_is_unpacked_lies_where_the_utterance_before_lay() -> None:
    first = of_size(9, 1.0, torch.float16).unpack()
    second = of_size(4, 2.0, torch.float16).unpack()
    assert second.data_ptr() == first.data_ptr()


def test_threads_do_not_share_their_room() -> None:
    together = Barrier(4)

    def unpack(value: int) -> bool:
        found = of_size(50, value, torch.float16).unpack()
        together.wait(timeout=300)  # until all threads have unpacked
        return bool((found == value).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(unpack, range(4)))


def test_values_too_small_for_a_step_become_zero_and_do_not_wrap_round() -> None:
    tiny = torch.full((1, 2, 3), 3e-43)
    assert not pack(tiny, torch.int8).values.any()
    assert not pack(tiny, torch.int8).unpack().any()
