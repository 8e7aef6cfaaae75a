"""Random transformations over random trees, each held against the same of optax.

`python -m tests.random_chains MINUTES [SEED]` tries as many as it can and prints each
that fails, made as small as it gets; `test_random_chains.py` tries a few.
"""

import functools
import pickle
import sys
import time
import traceback
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
from jax import numpy as jnp

import gradtx
from gradtx.compiler.lower import program_of
from gradtx.compiler.steps import whole_flow
from tests import equality
from tests.settings import OPTAX, OPTIMIZERS, Make
from tests.settings_of_primitives import PRIMITIVES

STEPS = 5
DEPTH = 3
SHAPES = [(), (1,), (3,), (2, 3), (3, 2), (2, 1, 2)]

LEFT_OUT = {
    "dpsgd": "takes the gradients of examples",
    "differentially_private_aggregate": "takes the gradients of examples",
    "hutchinson_estimator_diag_hessian": "takes a function of all parameters",
    "sophia": "takes a function of all parameters",
    "zero_nans": "its setting makes NaN, which another member of a chain keeps",
    "sm3": "in optax it fails for scalars",
    "scale_by_sm3": "in optax it fails for scalars",
    "scale_by_distance_over_gradients": "in optax scalars become vectors",
    "set_to_zero": "ours freezes: what is behind it adds nothing",
    **dict.fromkeys(
        ["schedule_free", "schedule_free_sgd", "schedule_free_adamw"],
        "ours refuses a learning rate behind it, which its averages would not see",
    ),
    **dict.fromkeys(
        [
            "adafactor",
            "galore",
            "madgrad",
            "scale_by_factored_rms",
            "scale_by_madgrad",
        ],
        "in optax a part of it is float32",
    ),
}
"""Settings, or all of a factory, each with the reason."""


def settings_of(all_of: dict[str, Make]) -> dict[str, Make]:
    """Those that can stand anywhere in a chain."""
    left = {n for n in all_of if {n, n.split(",")[0]} & LEFT_OUT.keys()}
    return {name: make for name, make in all_of.items() if name not in left}


def is_step(make: Make) -> bool:
    """Whether a setting makes a step, or may: a mask then freezes the rest."""
    program = program_of(make(gradtx).bound, jnp.zeros([], jnp.int32))
    return not whole_flow(program).is_direction


STEPPING = settings_of(OPTIMIZERS | PRIMITIVES)
DIRECTIONS = {name: it for name, it in STEPPING.items() if not is_step(it)}


class Node(NamedTuple):
    """A transformation before it is made of one of the libraries.

    Attributes:
        kind: A method of `Maker`.
        arguments: Its arguments: nodes, numbers, strings.
    """

    kind: str
    arguments: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(map(repr, self.arguments))})"


@gradtx.register
def every_second(step: Any, **extra: Any) -> Any:
    """When something happens."""
    return step % 2 == 0


class Maker:
    """Makes nodes of a library, over parameters."""

    def __init__(self, library: Any, params: Any):
        self.m, self.params = library, params

    def make(self, node: Node) -> Any:
        """The transformation that a node describes."""
        return getattr(self, node.kind)(*node.arguments)

    def setting(self, name: str) -> Any:
        """One of the settings of `settings.py`."""
        return STEPPING[name](self.m)

    def chain(self, *nodes: Node) -> Any:
        """One after the other."""
        return self.m.chain(*map(self.make, nodes))

    def named_chain(self, *nodes: Node) -> Any:
        """The same with names."""
        return self.m.named_chain(
            *((f"n{i}", self.make(n)) for i, n in enumerate(nodes))
        )

    def leaves_where(self, choice: int, one: Any, other: Any) -> Any:
        """A tree like the parameters: a leaf is the one thing or the other."""
        leaves, treedef = jax.tree.flatten(self.params)
        given = [one if choice >> i & 1 else other for i in range(len(leaves))]
        return treedef.unflatten(given)

    def masked(self, node: Node, choice: int) -> Any:
        """Of some leaves only."""
        return self.m.masked(self.make(node), self.leaves_where(choice, True, False))

    def partition(self, one: Node, other: Node, choice: int) -> Any:
        """Of some leaves, and another one of the others."""
        labels = self.leaves_where(choice, "one", "other")
        return self.m.partition(
            {"one": self.make(one), "other": self.make(other)}, labels
        )

    def multi_steps(self, node: Node, every: int) -> Any:
        """With the mean of some gradients."""
        return self.m.MultiSteps(self.make(node), every).gradient_transformation()

    def apply_if_finite(self, node: Node) -> Any:
        """Only of gradients that are finite."""
        return self.m.apply_if_finite(self.make(node), 3)

    def flatten(self, node: Node) -> Any:
        """As one vector."""
        return self.m.flatten(self.make(node))

    def conditionally_mask(self, node: Node) -> Any:
        """Every second update, and zeros in between."""
        return self.m.conditionally_mask(self.make(node), every_second)

    def conditionally_transform(self, node: Node) -> Any:
        """Every second update, and the gradient in between."""
        return self.m.conditionally_transform(self.make(node), every_second)


def nodes(
    depth: int, settings: dict[str, Make], has_masks: bool = True
) -> st.SearchStrategy[Node]:
    """Transformations of at most some depth; inside of a vector there are no masks."""
    one = st.builds(lambda n: Node("setting", (n,)), st.sampled_from([*settings]))
    if depth == 0:
        return one
    inside = nodes(depth - 1, settings, has_masks)
    directions = nodes(depth - 1, DIRECTIONS)
    whole = nodes(depth - 1, settings, False)
    some = st.lists(inside, min_size=1, max_size=3)
    choice = st.integers(0, 2**6 - 1)

    def of(kind: str, *parts: Any) -> Any:
        return st.tuples(*parts).map(lambda given: Node(kind, given))

    masks = [
        of("masked", directions, choice),
        of("partition", inside, inside, choice),
    ]
    return st.one_of(
        *masks * has_masks,
        one,
        some.map(lambda given: Node("chain", tuple(given))),
        some.map(lambda given: Node("named_chain", tuple(given))),
        of("multi_steps", inside, st.integers(1, 3)),
        of("apply_if_finite", inside),
        of("flatten", whole),
        of("conditionally_mask", inside),
        of("conditionally_transform", inside),
    )


def trees() -> st.SearchStrategy[Any]:
    """Trees of shapes, with None among the leaves."""
    shapes = st.sampled_from(SHAPES)
    whole = st.recursive(
        shapes | st.none(),
        lambda inside: (
            st.dictionaries(st.sampled_from("abc"), inside, min_size=1, max_size=3)
            | st.lists(inside, min_size=1, max_size=2)
        ),
        max_leaves=4,
    )
    return whole.filter(
        lambda tree: isinstance(tree, dict) and len(shapes_of(tree)) > 0
    )


def is_shape(x: Any) -> bool:
    """Whether this is one of the shapes, which are tuples."""
    return isinstance(x, tuple)


def shapes_of(tree: Any) -> Any:
    """The shapes in a tree of shapes."""
    return jax.tree.leaves(tree, is_leaf=is_shape)


def filled(tree: Any, seed: int) -> Any:
    """Arrays of the shapes of a tree, of numbers that are not near 0."""
    rng = np.random.default_rng(seed)

    def array(shape: Any) -> Any:
        values = rng.uniform(0.2, 2, shape) * rng.choice([-1, 1], shape)
        return jnp.asarray(values, float)

    return jax.tree.map(array, tree, is_leaf=is_shape)


def is_finite(tree: Any) -> bool:
    """Whether optax made numbers of it."""
    arrays = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return all(np.isfinite(np.asarray(x)).all() for x in arrays)


def path(tx: Any, params: Any) -> tuple[Any, list[Any], list[Any]]:
    """The first state, and the updates and the states of some steps."""
    step = jax.jit(functools.partial(equality.step, tx))
    first = state = tx.init(params)
    updates, states, at = [], [], params
    for i in range(STEPS):
        grads = jax.tree.map(lambda p, i=i: jnp.cos(5 * p + i) + 0.1, params)
        (at, state), update = step((at, state), (grads, jnp.asarray(3.0 - 0.1 * i)))
        updates.append(update)
        states.append(state)
    return first, updates, states


def near(ours: Any, theirs: Any) -> None:
    """Equal but for rounding, which some members magnify, by leaf.

    Of a difference that nearly cancels optax not jitted is 1e-9 from itself jitted.
    """
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype, (a.dtype, b.dtype)
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        size = np.max(np.abs(b), initial=1e-8)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7 * size)


READ_ONLY = {"step_size", "win_rate", "given", "clip_count"}


def counted(state: Any, other: Any) -> Any:
    """A state with what another one has where optax's does not tell it.

    Some of optax's count nothing, some only whether there was an update; some numbers
    we keep to be read.
    """

    def one(path: Any, mine: Any, its: Any) -> Any:
        names = {x for key in path for x in str(getattr(key, "key", "")).split(".")}
        is_count = "count" in names and mine <= min(1, its)
        return its if is_count or names & READ_ONLY else mine

    assert jax.tree.structure(state) == jax.tree.structure(other)
    return jax.tree_util.tree_map_with_path(one, state, other)


def check(node: Node, shapes: Any, seed: int) -> None:
    """One transformation of ours is optax's, in numbers and on every way in and out."""
    params = filled(shapes, seed)
    try:
        with equality.as_optax_needs():
            theirs = Maker(OPTAX, params).make(node)
            their_first, expected, their_states = path(theirs, params)
    except (TypeError, ValueError, KeyError):  # empty vectors, a loss under a condition
        hypothesis.reject()
    hypothesis.assume(is_finite((expected, their_states)))
    ours = Maker(gradtx, params).make(node)
    _, updates, states = path(ours, params)
    near(updates, expected)

    taken = gradtx.from_optax(ours, their_states[1], params)
    near(counted(taken, states[1]), states[1])
    given = gradtx.to_optax(ours, states[1], their_first)
    near(given, their_states[1])
    restored = gradtx.restore(ours, params, states[1])
    assert not (restored.renamed or restored.new or restored.dropped), restored
    equality.bitwise(restored.state, states[1])
    if is_named(node):
        assert pickle.loads(pickle.dumps(ours)) == ours
        assert gradtx.from_config(gradtx.to_config(ours)) == ours


@functools.cache
def is_named(node: Node) -> bool:
    """Whether all its functions have names, by which pickles and configs find them."""
    if node.kind != "setting":
        return all(is_named(x) for x in node.arguments if isinstance(x, Node))
    try:
        gradtx.to_config(STEPPING[node.arguments[0]](gradtx))
    except (TypeError, ValueError):
        return False
    return True


MAY_BE_SLOW = [
    hypothesis.HealthCheck.too_slow,
    hypothesis.HealthCheck.filter_too_much,
    hypothesis.HealthCheck.data_too_large,
]
"""What hypothesis is not to complain of: two programs are compiled for an example."""

EXAMPLES = {
    "node": nodes(DEPTH, STEPPING),
    "shapes": trees(),
    "seed": st.integers(0, 100),
}


def main(minutes: float, seed: int) -> None:
    """Try until the time is up, and print what fails."""
    tried = failed = 0

    def one(node: Node, shapes: Any, seed: int) -> None:
        nonlocal tried
        check(node, shapes, seed)
        tried += 1

    end, found = time.monotonic() + 60 * minutes, set()
    while time.monotonic() < end:
        run = hypothesis.settings(
            max_examples=25,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=MAY_BE_SLOW,
        )(hypothesis.given(**EXAMPLES)(one))
        try:
            hypothesis.seed(seed)(run)()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed += 1
            text = "".join(traceback.format_exception(error, limit=-3))
            found.add(text.splitlines()[-1][:80])
            print(f"seed {seed}\n{text}", flush=True)
        seed += 1
        jax.clear_caches()
        print(f"{tried} passed, {failed} failed in {len(found)} kinds", flush=True)


if __name__ == "__main__":
    with jax.enable_x64(True):
        main(float(sys.argv[1]), int((sys.argv[2:] or ["0"])[0]))
