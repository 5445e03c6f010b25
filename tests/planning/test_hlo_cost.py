"""Costs of programs whose text is written here, so that every number follows by hand."""

import pytest

from seal_jax.planning import hlo_cost
from seal_jax.planning.machines import Rates

# A second is 1000 FLOPs, 100 bytes of memory or 10 of the links; a cycle is a millisecond.
RATES = Rates(flops=1000.0, bandwidth=100.0, links=10.0, clock=1000.0)

# 5 layers of a [2, 3] x [3, 3] product in a loop that counts, in one that stops by itself.
LOOPS = """HloModule m

%body (p: (s32[], f32[2,3], f32[3,3])) -> (s32[], f32[2,3], f32[3,3]) {
  %p = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[2,3]{1,0} get-tuple-element(%p), index=1
  %w = f32[3,3]{1,0} get-tuple-element(%p), index=2
  %y = f32[2,3]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %t = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) tuple(%i, %y, %w)
}

%counts (q: (s32[], f32[2,3], f32[3,3])) -> pred[] {
  %q = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) parameter(0)
  %five = s32[] constant(5)
  %j = s32[] get-tuple-element(%q), index=0
  ROOT %less = pred[] compare(%j, %five), direction=LT
}

%outer (p2: (s32[], f32[2,3], f32[3,3])) -> (s32[], f32[2,3], f32[3,3]) {
  %p2 = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) parameter(0)
  ROOT %inner = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) while(%p2), condition=%counts, body=%body
}

%stops (q2: (s32[], f32[2,3], f32[3,3])) -> pred[] {
  %q2 = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) parameter(0)
  %k = s32[] get-tuple-element(%q2), index=0
  ROOT %same = pred[] compare(%k, %k), direction=LT
}

ENTRY %main (a: (s32[], f32[2,3], f32[3,3])) -> (s32[], f32[2,3], f32[3,3]) {
  %a = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) parameter(0)
  ROOT %r = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) while(%a), condition=%stops, body=%outer
}
"""


def _program(body: str, computations: str = "", branches=()) -> hlo_cost.Program:
    """A program of straight instructions on a parameter %x."""
    text = (
        f"HloModule m\n{computations}\nENTRY %main (x: f32[8,10]) -> f32[] {{\n"
        f"  %x = f32[8,10]{{1,0}} parameter(0)\n{body}\n}}\n"
    )
    return hlo_cost.Program(text, RATES, branches)


def test_a_loop_that_counts_runs_so_often_and_one_that_stops_as_the_caller_says():
    # A product: 2 x 2 x 3 x 3 = 36 FLOPs, and (6 + 9 + 6) floats of 4 bytes.
    once = hlo_cost.Program(LOOPS, RATES).cost(1)
    assert (once.flops, once.traffic) == (5 * 36, 5 * 84)
    thrice = hlo_cost.Program(LOOPS, RATES).cost(3)
    assert (thrice.flops, thrice.traffic) == (15 * 36, 15 * 84)
    # 84 bytes take 0.84 s, longer than 36 FLOPs.
    assert thrice.seconds == pytest.approx(15 * 0.84)


def test_loops_that_follow_each_other_share_the_steps():
    text = LOOPS.replace("ROOT %r =", "%first =").replace(
        "body=%outer\n}",
        "body=%outer\n  ROOT %r = (s32[], f32[2,3]{1,0}, f32[3,3]{1,0}) while(%first), "
        "condition=%stops, body=%body\n}",
    )
    # Of 3 steps 2 are of the loop of 5 products, and 1 of that of a single one.
    for steps, products in ((1, 5), (2, 10), (3, 11), (9, 12)):
        assert hlo_cost.Program(text, RATES).cost(steps, stages=(2, 4)).flops == products * 36


def test_a_sweep_over_tokens_inside_runs_once_a_block():
    # The loop that stops is taken for a sweep over 1,025 tokens: three blocks of 512.
    text = LOOPS.replace("ROOT %r = (s32[],", "ROOT %r = (f32[1025]{0}, s32[],")
    assert hlo_cost.Program(text, RATES).cost(has_loop=False).flops == 3 * 5 * 36


SWITCH = """
%cheap (c: f32[8,10]) -> f32[8,10] {
  %c = f32[8,10]{1,0} parameter(0)
  ROOT %cc = f32[8,10]{1,0} negate(%c)
}

%dear (d: f32[8,10]) -> f32[8,10] {
  %d = f32[8,10]{1,0} parameter(0)
  %d1 = f32[8,10]{1,0} negate(%d)
  ROOT %dd = f32[8,10]{1,0} negate(%d1)
}
"""


@pytest.mark.parametrize("shares, passes", [((), 2), ((0.75, 0.25), 1.25)])
def test_branches_are_weighted_or_the_dearest_counts(shares, passes):
    body = (
        "  %n = s32[] constant(0)\n  ROOT %s = f32[8,10]{1,0} conditional(%n, %x, %x), "
        "branch_computations={%cheap, %dear}"
    )
    program = _program(body, computations=SWITCH, branches=shares)
    assert program.cost().traffic == passes * 2 * 320


FUSED = """
%sliced (a: f32[8,10], i: s32[]) -> f32[1,10] {
  %a = f32[8,10]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %part = f32[1,10]{1,0} dynamic-slice(%a, %i, %zero), dynamic_slice_sizes={1,10}
  ROOT %n = f32[1,10]{1,0} negate(%part)
}

%whole (b: f32[8,10]) -> f32[8,10] {
  %b = f32[8,10]{1,0} parameter(0)
  ROOT %bc = f32[8,10]{1,0} bitcast(%b)
}

%updated (e: f32[8,10], u: f32[1,10], k: s32[]) -> f32[8,10] {
  %e = f32[8,10]{1,0} parameter(0)
  %u = f32[1,10]{1,0} parameter(1)
  %k = s32[] parameter(2)
  %none = s32[] constant(0)
  ROOT %du = f32[8,10]{1,0} dynamic-update-slice(%e, %u, %k, %none)
}
"""


@pytest.mark.parametrize(
    "body, traffic",
    [
        # A row of 40 bytes is read and one written, whatever the operand's size; the index is 4.
        (
            "  %i = s32[] constant(2)\n"
            "  ROOT %f = f32[1,10]{1,0} fusion(%x, %i), kind=kLoop, calls=%sliced",
            40 + 4 + 40,
        ),
        # What is only renamed inside is read whole.
        ("  ROOT %f = f32[8,10]{1,0} fusion(%x), kind=kLoop, calls=%whole", 640),
        # In place: the new row is read and written.
        (
            "  %i = s32[] constant(2)\n  %row = f32[1,10]{1,0:S(1)} negate(%i)\n"
            "  ROOT %f = f32[8,10]{1,0} fusion(%x, %row, %i), kind=kLoop, calls=%updated",
            4 + 0 + 4 + 40,
        ),
        # Not in main memory.
        ("  ROOT %f = f32[8,10]{1,0:T(8,128)S(1)} negate(%x)", 320),
        ("  ROOT %f = (f32[8,10]{1,0:S(1)}, f32[8,10]{1,0}, u32[]) copy-start(%x)", 320),
    ],
)
def test_traffic_is_what_main_memory_moves(body, traffic):
    assert _program(body, computations=FUSED).cost().traffic == traffic


def test_the_compilers_cycles_go_before_the_roofline_but_not_below_the_traffic():
    known = '  ROOT %f = f32[8,10]{1,0:S(1)} negate(%x), backend_config={"estimated_cycles":"9000"}'
    assert _program(known).cost().seconds == 9.0
    # 320 bytes take 3.2 s, however few the cycles.
    assert _program(known.replace("9000", "1")).cost().seconds == pytest.approx(3.2)


def test_collectives_take_the_links():
    reduced = "  ROOT %f = f32[8,10]{1,0} all-reduce(%x), replica_groups={{0,1}}, to_apply=%add"
    cost = _program(reduced).cost()
    assert (cost.links, cost.seconds, cost.traffic) == (640, 64.0, 0)


CUBLAS = (
    "  ROOT %f = (f32[8,6]{1,0}, s8[4096]{0}) custom-call(%x, %w), "
    'custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":'
    '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":'
    '["0"],"lhs_batch_dimensions":[]}}}'
)


def test_a_product_of_cublas_counts_without_the_room_that_it_works_in():
    cost = _program("  %w = f32[10,6]{1,0} constant({...})\n" + CUBLAS).cost()
    assert cost.flops == 2 * 8 * 10 * 6
    assert cost.traffic == 4 * (80 + 60 + 48)


@pytest.mark.parametrize("name, products", [("fmhaSoftmax", 2), ("fmhaSoftmaxBackward", 5)])
@pytest.mark.parametrize("mask, share", [("CAUSAL", 0.5), ("NO_MASK", 1)])
def test_cudnns_attention_counts_its_products(name, products, mask, share):
    """Of 3 rows, 4 heads, 64 tokens and a head width of 8."""
    call = (
        "  %q = bf16[3,64,4,8]{3,1,2,0} constant({...})\n"
        "  ROOT %f = (bf16[3,4,64,8]{3,1,2,0}, u8[0]{0}) custom-call(%q, %q, %q), "
        f'custom_call_target="__cudnn${name}", backend_config={{"cudnn_fmha_backend_config": '
        '{"intermediate_tensor_shape": {"element_type": "BF16", "dimensions": ["3", "4", "64", '
        f'"64"], "tuple_shapes": []}}, "mask_type": "{mask}"}}}}'
    )
    cost = _program(call).cost()
    assert cost.flops == products * share * 2 * (3 * 4 * 64 * 64 * 8)
    assert cost.traffic == 4 * (3 * 4 * 64 * 8) * 2


def test_other_custom_calls_have_no_products():
    """As those without operands, which the compiler for TPUs makes to have room."""
    call = '  ROOT %f = f32[8,10]{1,0} custom-call(), custom_call_target="AllocateBuffer"'
    assert _program(call).cost().flops == 0


DOTTED = """
%product (a: f32[8,10], b: f32[10,6]) -> f32[8,6] {
  %a = f32[8,10]{1,0} parameter(0)
  %b = f32[10,6]{1,0} parameter(1)
  ROOT %d = f32[8,6]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


def test_a_fusion_that_is_started_and_awaited_counts_once():
    body = (
        "  %w = f32[10,6]{1,0} constant({...})\n"
        "  %s = ((f32[8,10]{1,0}, f32[10,6]{1,0}), f32[8,6]{1,0}, s32[]) fusion-start(%x, %w), "
        "kind=kCustom, calls=%product\n"
        "  ROOT %e = f32[8,6]{1,0} fusion-done(%s)"
    )
    cost = _program(body, computations=DOTTED).cost()
    assert cost.flops == 2 * 8 * 10 * 6
    assert cost.traffic == 4 * (80 + 60 + 48) + 4


def test_a_batch_written_as_a_dilated_convolution_counts_once():
    # 25 products [7, 8704] x [8704, 128], as the compiler for TPUs writes attention.
    attributes = ", window={size=25 stride=24 lhs_dilate=25}, dim_labels=0fb_o0i->0bf"
    found = hlo_cost.convolution_flops((25, 11, 6), (7, 25, 11), (25, 6, 7), attributes)
    assert found == 2 * 25 * 6 * 7 * 11
