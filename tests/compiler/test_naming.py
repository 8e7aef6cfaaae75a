import random

import pytest

from gradtx.compiler.naming import Names, Unit, shortest


def trails_of(tree, around=(), where=()):
    """The trails of a tree: `("chain", ("sgd", "rate"))` is a number in two units."""
    if isinstance(tree, str):
        return [(*around, Unit(tree, where))]
    text, *members = tree
    inside = (*around, Unit(text, where))
    return [
        trail
        for i, member in enumerate(members)
        for trail in trails_of(member, inside, (*where, i))
    ]


def names_of(tree):
    return shortest(trails_of(tree))


SGD, ADAM = ("sgd", "rate", "decay"), ("adam", "rate", "b1")


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        (SGD, ["rate", "decay"]),
        (("chain", SGD, ADAM), ["sgd.rate", "decay", "adam.rate", "b1"]),
        (("chain", ("a.b", ("f", "x")), ("c", ("f", "x"))), ["b.f.x", "c.f.x"]),
        (("chain", ("f", "x"), ("f", "x")), ["f.x.1of2", "f.x.2of2"]),
        (("chain", ("f", "x"), ("w", ("f", "x"))), ["chain.f.x", "w.f.x"]),
        (
            ("chain", ("f", "x"), ("w", ("chain", ("f", "x")))),
            ["f.x.1of2", "f.x.2of2"],
        ),
    ],
)
def test_a_name_is_the_shortest_end_that_no_other_number_has(tree, names):
    assert names_of(tree) == names


def some_tree(draw, depth=4):
    if depth == 0 or draw.random() < 0.2:
        return draw.choice("xy")
    members = [some_tree(draw, depth - 1) for _ in range(draw.randint(1, 3))]
    return (draw.choice("abc"), *members)


@pytest.mark.parametrize("seed", range(200))
def test_names_are_distinct_and_no_unit_put_around_changes_them(seed):
    draw = random.Random(seed)
    tree = ("a", some_tree(draw), some_tree(draw), some_tree(draw))
    names = names_of(tree)
    assert len({*names}) == len(names)
    for units in ("a", "b", "ab", "ba", "aa"):
        around = tree
        for unit in units:
            around = (unit, around)
        assert names_of(around) == names


@pytest.mark.parametrize("seed", range(100))
def test_each_number_is_found_by_its_name_and_by_every_longer_one(seed):
    draw = random.Random(seed)
    names = Names(trails_of(("a", some_tree(draw), some_tree(draw))))
    for i, (name, full) in enumerate(zip(names.shortest, names.full, strict=True)):
        assert names.find(name) == [i]
        plain = name.split(".")
        if "of" not in name:
            for length in range(len(plain), len(full) + 1):
                assert names.find(".".join(full[-length:])) == [i]


def test_a_name_in_parts_is_found_where_no_end_is():
    inside = ("groups", ("w", ("sgd", "rate")), ("b", ("sgd", "rate")))
    names = Names(trails_of(("chain", inside)))
    assert names.find("groups.w.rate") == names.find("w.rate") == [0]
    assert names.find("w.groups.rate") == names.find("ate") == []
    assert names.find("rate") == names.find("chain.rate") == [0, 1]
