"""Keys by purpose."""

import itertools
import zlib

import jax
import numpy as np
import pytest

from seal_jax.core.randomness import key_for


def _bits(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_a_key_is_its_parts_folded_in_one_by_one():
    key = jax.random.key(7)
    for number in (zlib.crc32(b"init"), 3, zlib.crc32("é".encode())):
        key = jax.random.fold_in(key, number)
    assert _bits(key_for(7, "init", 3, "é")) == _bits(key)
    assert _bits(key_for(7)) == _bits(jax.random.key(7))


def test_every_part_and_its_place_matter():
    purposes = [
        *itertools.product((0, 1), ("init", "sample"), (0, 1), ("passage-1", "passage-2"), (0, 1)),
        (0, "init"),
        (0, "init", 0),
        (0, 0, "init"),
        (0, "passage-1", 0, "init", 0),
    ]
    assert len({_bits(key_for(*purpose)) for purpose in purposes}) == len(purposes)


def test_a_key_does_not_depend_on_what_was_drawn_before():
    first = _bits(key_for(0, "sample", 1))
    jax.random.uniform(key_for(0, "sample", 0))
    assert _bits(key_for(0, "sample", 1)) == first
    # Another hash or order of folding would change what every recorded run repeats to.
    assert first == (4256513327, 41616457)


def test_negative_numbers_are_refused():
    with pytest.raises(OverflowError):
        key_for(0, -1)
