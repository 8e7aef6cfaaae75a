"""The type of states in optax's wrappers, equinox, flax, Orbax, and in exports."""

import io
import subprocess
import sys
import textwrap

import equinox as eqx
import flax.serialization
import jax
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import export
from jax import numpy as jnp

import gradtx
from tests.core.test_state import NESTED, PARAMS, nodes, same, step

pytestmark = pytest.mark.usefixtures("standard_promotion")

AROUND = {
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "flatten": optax.flatten,
    "masked": lambda tx: optax.masked(tx, {"w": True, "b": False}),
    "partition": lambda tx: optax.partition({"a": tx}, "a"),
    "schedule_free": lambda tx: optax.contrib.schedule_free(tx, 0.1),
}


@pytest.mark.parametrize("name", AROUND)
def test_wrappers_of_optax_keep_it(name):
    tx = AROUND[name](gradtx.adam(0.1))
    state = tx.init(PARAMS)
    after = jax.jit(lambda s: tx.update(PARAMS, s, PARAMS)[1])(state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert "State[(" in str(jax.tree.structure(after))


def test_equinox_edits_and_stores_it():
    state = step(NESTED.init(PARAMS))
    edited = eqx.tree_at(lambda s: s.inner.mu["w"], state, jnp.zeros((2, 3)))
    assert type(edited.inner) is gradtx.State and not edited.inner.mu["w"].any()
    same(eqx.filter_jit(step)(state), step(state))
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, state)
    file.seek(0)
    same(eqx.tree_deserialise_leaves(file, NESTED.init(PARAMS)), state)


@pytest.mark.skipif(not hasattr(nnx, "as_pure"), reason="flax of jax 0.8 has not")
def test_an_nnx_optimizer_keeps_it():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, NESTED, wrt=nnx.Param)

    @nnx.jit
    def train(model, optimizer):
        optimizer.update(model, nnx.grad(lambda m: (m.kernel[...] ** 2).sum())(model))

    for _ in range(2):
        train(model, optimizer)
    assert int(optimizer.opt_state.gradient_step[...]) == 1
    assert int(optimizer.opt_state[1].inner.count[...]) == 1
    pure = nnx.as_pure(optimizer.opt_state)
    assert nodes(pure["inner"]) >= {gradtx.State} and type(pure) is gradtx.State
    plain = nnx.to_pure_dict(nnx.state(optimizer))["opt_state"]
    restored = gradtx.restore(NESTED, nnx.state(model, nnx.Param), plain).state
    nnx.update(optimizer, {"opt_state": restored})
    again = nnx.merge(*nnx.split(optimizer))
    assert type(again.opt_state) is gradtx.State
    train(model, optimizer)
    assert int(optimizer.opt_state.mini_step[...]) == 1


def test_flax_serialization_takes_it():
    train = TrainState.create(apply_fn=None, params=PARAMS, tx=NESTED)
    train = jax.jit(lambda it: it.apply_gradients(grads=PARAMS))(train)
    target = TrainState.create(apply_fn=None, params=PARAMS, tx=NESTED)
    saved = flax.serialization.to_state_dict(train)
    assert nodes(saved) == {dict}
    same(flax.serialization.from_state_dict(target, saved), train)
    data = flax.serialization.to_bytes(train)
    same(flax.serialization.from_bytes(target, data), train)
    state = train.opt_state
    assert flax.serialization.to_bytes(state) == flax.serialization.to_bytes(
        state._asdict()
    )
    del saved["opt_state"]["inner"]["mu"]
    with pytest.raises(ValueError, match=r"keys .'mu'. "):
        flax.serialization.from_state_dict(target, saved)


@pytest.mark.parametrize("first", ["gradtx", "flax.serialization"])
def test_flax_learns_of_it_whenever_it_is_imported(first):
    """And is not imported by us."""
    code = f"""
        import sys, {first}
        import gradtx
        assert ("flax" in sys.modules) == {first != "gradtx"}
        state = gradtx.adam(0.1).init({{"w": 1.0}})
        from flax import serialization
        again = serialization.from_bytes(state, serialization.to_bytes(state))
        assert type(again) is gradtx.State and again == state
        assert not any("gradtx" in type(it).__module__ for it in sys.meta_path)
    """
    run(code)


def run(code, *args):
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


def test_orbax_stores_it(tmp_path):
    state, target = step(NESTED.init(PARAMS)), NESTED.init(PARAMS)
    with ocp.StandardCheckpointer() as checkpointer:
        for name, tree in (("state", state), ("old", state._asdict())):
            checkpointer.save(tmp_path / name, tree)
        checkpointer.wait_until_finished()
        for name in ("state", "old"):
            same(checkpointer.restore(tmp_path / name, target), state)
            same(
                checkpointer.restore(tmp_path / name, target._asdict()), state._asdict()
            )
        plain = checkpointer.restore(tmp_path / "state")
    assert nodes(plain) == {dict}
    same(step(plain), step(state)._asdict())
    same(gradtx.restore(NESTED, PARAMS, plain).state, state)


def test_a_step_is_exported_with_it_and_of_plain_dicts_without_gradtx(tmp_path):
    state = NESTED.init(PARAMS)
    tell = jax.jit(NESTED.update)
    data = export.export(tell)(PARAMS, state, PARAMS).serialize()
    same(export.deserialize(data).call(PARAMS, state, PARAMS)[1], step(state))
    plain = state._asdict()
    path = tmp_path / "step"
    path.write_bytes(export.export(tell)(PARAMS, plain, PARAMS).serialize())
    code = """
        import pathlib, sys
        import jax
        from jax import export, numpy as jnp
        step = export.deserialize(bytearray(pathlib.Path(sys.argv[1]).read_bytes()))
        ones = [jnp.ones(x.shape, x.dtype) for x in step.in_avals]
        args, _ = step.in_tree.unflatten(ones)
        print(sorted(step.call(*args)[1]))
        assert "gradtx" not in sys.modules
    """
    assert run(code, str(path)) == f"{sorted(state)}\n"
