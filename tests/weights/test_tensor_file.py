"""Parts of tensors: the right numbers, no more bytes than asked for, and damaged headers."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from seal_jax.weights import tensor_file
from seal_jax.weights.names import WeightsError
from seal_jax.weights.tensor_file import TensorFile

TENSORS = {
    "a": np.arange(6 * 8, dtype=np.float32).reshape(6, 8),
    "b": np.arange(5, dtype=ml_dtypes.bfloat16),
    "one": np.array(3.5, np.float16),
    "none": np.zeros((0, 4), np.float32),
}
ALL = slice(None)


@pytest.fixture(params=["local", "gs"])
def file(request, tmp_path, monkeypatch, object_store):
    """The tensors in a file, which is read two rows of "a" at a time."""
    monkeypatch.setattr(tensor_file, "_BLOCK_BYTES", 64)
    content = safetensors.numpy.save(TENSORS)
    (tmp_path / "x.safetensors").write_bytes(content)
    object_store.objects["bucket/x.safetensors"] = content
    path = tmp_path / "x.safetensors" if request.param == "local" else "gs://bucket/x.safetensors"
    with TensorFile(path) as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("a", (ALL, ALL)),
        ("a", (slice(1, 6), ALL)),
        ("a", (slice(2, 5), slice(4, 8))),
        ("b", (slice(1, 3),)),
        ("none", (ALL, ALL)),
    ],
)
def test_a_part_is_what_numpy_cuts_out(file, name, index):
    expected = TENSORS[name][index].astype(np.float64)
    target = np.full(expected.shape, -1.0)
    file.copy(name, index, target)
    np.testing.assert_array_equal(target, expected)
    turned = np.full(expected.shape[::-1], -1.0)
    file.copy(name, index, turned.T)
    np.testing.assert_array_equal(turned, expected.T)


def test_no_more_is_read_from_an_object_store_than_the_rows(object_store):
    object_store.objects["bucket/x.safetensors"] = safetensors.numpy.save(TENSORS)
    with TensorFile("gs://bucket/x.safetensors") as file:
        object_store.reads.clear()
        file.copy("a", (slice(2, 4), slice(0, 2)), np.empty((2, 2), np.float32))
    assert object_store.reads == [("bucket/x.safetensors", 2 * 8 * 4)]


def _with_header(change):
    content = safetensors.numpy.save({"a": np.zeros((2, 3), np.float32)})
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a header of 0 bytes in a file of 0"),
        ((2**40).to_bytes(8, "little") + b"{}", "a header of 1099511627776 bytes in a file of 10"),
        (b"\x02" + bytes(7) + b"[]", "complete safetensors"),
        (safetensors.numpy.save(TENSORS) + b"x", "bytes expected"),
        (_with_header(lambda h: h["a"].update(shape=[2, 4])), r"24 bytes for \[2, 4\] of F32"),
        (_with_header(lambda h: h["a"].update(data_offsets=[4, 24])), "does not begin where"),
        (_with_header(lambda h: h["a"].update(dtype="I8", shape=[24])), "is stored as I8"),
    ],
    ids=["empty", "cut", "list", "longer", "shape", "gap", "quantised"],
)
def test_a_damaged_file_is_refused(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        TensorFile(tmp_path / "x.safetensors")
