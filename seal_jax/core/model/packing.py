"""Rows of different lengths as one packed row, and back.

Dense layers cost the same for padding as for tokens, so they run on a packed row that holds the
tokens of all rows one after another; attention and low-rank deltas, which cost little, run on the
padded rows. Both directions are gathers, and each is the other's transpose.

Dims: R rows, T tokens of a padded row, P tokens of the packed row.
"""

import flax.struct
import jax
import jax.numpy as jnp


class Packing(flax.struct.PyTreeNode):
    """Where the tokens of padded rows [R, T] lie in a packed row [P].

    Attributes:
      padded_P: index into the R * T padded tokens of each packed one.
      real_P: bool; false at the end of the packed row, where no token lies.
      packed_RxT: index into the packed row of each padded token.
      real_RxT: bool; false at padding.
    """

    padded_P: jax.Array
    real_P: jax.Array
    packed_RxT: jax.Array
    real_RxT: jax.Array


def make(lengths_R, *, packed: int, padded: int) -> Packing:
    """The packing of rows of these lengths.

    Args:
      lengths_R: number of tokens of each row, at most `padded` each and `packed` in all; what
        exceeds that is lost.
      packed, padded: P and T.
    """
    ends_R = jnp.cumsum(lengths_R)
    starts_R = ends_R - lengths_R
    slots_P, offsets_T = jnp.arange(packed), jnp.arange(padded)
    rows_P = jnp.searchsorted(ends_R, slots_P, side="right", method="compare_all")
    real_P = rows_P < len(lengths_R)
    rows_P = jnp.minimum(rows_P, len(lengths_R) - 1)
    columns_P = jnp.clip(slots_P - starts_R[rows_P], 0, padded - 1)
    packed_RxT = jnp.minimum(starts_R[:, None] + offsets_T, packed - 1)
    return Packing(
        padded_P=rows_P * padded + columns_P,
        real_P=real_P,
        packed_RxT=packed_RxT,
        real_RxT=(offsets_T < lengths_R[:, None]) & (starts_R[:, None] + offsets_T < packed),
    )


@jax.custom_vjp
def pack(packing: Packing, values_RxTxD):
    """[P, ...] of padded values [R, T, ...]; zero where no token lies."""
    rows, tokens, *features = values_RxTxD.shape
    values_PxD = values_RxTxD.reshape(rows * tokens, *features)[packing.padded_P]
    return _where(packing.real_P, values_PxD)


@jax.custom_vjp
def unpack(packing: Packing, values_PxD):
    """[R, T, ...] of packed values [P, ...]; zero at padding."""
    return _where(packing.real_RxT, values_PxD[packing.packed_RxT])


# The transpose of a gather is a scatter, which is slow; here it is the other gather, since each
# token lies in exactly one place of either form.
pack.defvjp(
    lambda packing, values: (pack(packing, values), packing),
    lambda packing, cotangent: (None, unpack(packing, cotangent)),
)
unpack.defvjp(
    lambda packing, values: (unpack(packing, values), packing),
    lambda packing, cotangent: (None, pack(packing, cotangent)),
)


def _where(real, values):
    """Zero, and not a product with it, where nothing real is: a neighbour may hold NaN."""
    real = real.reshape(real.shape + (1,) * (values.ndim - real.ndim))
    return jnp.where(real, values, jnp.zeros((), values.dtype))
