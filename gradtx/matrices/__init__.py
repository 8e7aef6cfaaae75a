"""Methods that treat a weight as a matrix."""

from gradtx.matrices.newton_schulz import COEFFICIENTS as COEFFICIENTS
from gradtx.matrices.newton_schulz import orthogonalize as orthogonalize
