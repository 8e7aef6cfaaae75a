"""Annotations of factory arguments, for authors of transformations."""

from gradtx.core.annotations import Constant as Constant
from gradtx.core.annotations import Decay as Decay
from gradtx.core.annotations import DType as DType
from gradtx.core.annotations import Every as Every
from gradtx.core.annotations import FirstValue as FirstValue
from gradtx.core.annotations import Fixed as Fixed
from gradtx.core.annotations import Fraction as Fraction
from gradtx.core.annotations import Key as Key
from gradtx.core.annotations import Member as Member
from gradtx.core.annotations import NonNegative as NonNegative
from gradtx.core.annotations import NonPositive as NonPositive
from gradtx.core.annotations import OpenDecay as OpenDecay
from gradtx.core.annotations import Positive as Positive
from gradtx.core.annotations import PositiveInt as PositiveInt
from gradtx.core.annotations import Scalar as Scalar
from gradtx.core.annotations import ScalarOrSchedule as ScalarOrSchedule
from gradtx.core.annotations import Share as Share
from gradtx.core.annotations import Size as Size
