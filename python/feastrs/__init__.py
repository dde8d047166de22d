"""feastrs: the hot work of a Feast feature store, in Rust.

Importing it loads neither feast nor pandas nor pyarrow nor numpy.

Example:
    >>> import feastrs
    >>> feastrs.FeatureStore.__name__
    'FeatureStore'
"""

from feastrs._native import __version__
from feastrs.feature_store import FeatureStore
from feastrs.materialization import MaterializationError, MaterializationReport, ViewReport
from feastrs.online_reader import OnlineReader
from feastrs.online_response import OnlineResponse
from feastrs.online_writes import PushMode, WriteReport, WrittenView
from feastrs.verification import VerificationError, VerificationReport, ViewVerification

__all__ = [
    "FeatureStore",
    "MaterializationError",
    "MaterializationReport",
    "OnlineReader",
    "OnlineResponse",
    "PushMode",
    "VerificationError",
    "VerificationReport",
    "ViewReport",
    "ViewVerification",
    "WriteReport",
    "WrittenView",
    "__version__",
]
