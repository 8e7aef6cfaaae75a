"""Building blocks; the other names of `optax.transforms` are forwarded to optax.

Parts used by recipes only (`magnitude`, `at_least`, `at_first`, ...) are exported
here; they are attributes of `gradtx` too, but not in its list of names.
"""

from types import ModuleType as _ModuleType
from typing import Any as _Any

import optax as _optax

from gradtx.core.fallback import own_or as _own_or
from gradtx.transforms.averages import at_first as at_first
from gradtx.transforms.averages import dampen as dampen
from gradtx.transforms.averages import difference as difference
from gradtx.transforms.averages import running_maximum as running_maximum
from gradtx.transforms.averages import sign_average as sign_average
from gradtx.transforms.bias import nesterov_correction as nesterov_correction
from gradtx.transforms.divide import atan2_of_root as atan2_of_root
from gradtx.transforms.divide import clip_by_normalized_rms as clip_by_normalized_rms
from gradtx.transforms.estimators import at_least as at_least
from gradtx.transforms.estimators import block_mean as block_mean
from gradtx.transforms.estimators import magnitude as magnitude
from gradtx.transforms.estimators import root as root
from gradtx.transforms.estimators import shift as shift
from gradtx.transforms.factored import covered_sum as covered_sum
from gradtx.transforms.factored import factored_average as factored_average
from gradtx.transforms.factored import factored_ema as factored_ema
from gradtx.transforms.factored import power_decay as power_decay
from gradtx.transforms.periodic import average_every as average_every
from gradtx.transforms.scaling import block_norm as block_norm
from gradtx.transforms.scaling import scale_by_tanh as scale_by_tanh


def __getattr__(name: str) -> _Any:
    return _own_or(_optax.transforms, name)


def __dir__() -> list[str]:
    files = {name for name, it in globals().items() if isinstance(it, _ModuleType)}
    own = {name for name in globals() if name[0] != "_"} - files
    return sorted({*own, *dir(_optax.transforms)})
