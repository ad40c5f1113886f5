"""The head of a proxy: a linear map from features to the difference score.

Axes: R rows, F features.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from miniplm.scoring.proxy_features import Matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PENALTIES = tuple(10.0**power for power in range(-3, 5))
"""Of which cross-validation takes one."""
FOLDS = 4
_LEAST_SPREAD = 1e-6
"""Of a feature that is worth looking at, in units of the feature."""


@dataclass(frozen=True)
class Head:
    """A linear map.

    Args:
        weights_F: Of each feature.
        intercept: Added to it.
        penalty: That cross-validation took.
    """

    weights_F: NDArray[np.float64]
    intercept: float
    penalty: float

    def predict(self, features_RF: Matrix) -> NDArray[np.float64]:
        """The predicted difference score of each row, `[R]`."""
        predicted: NDArray[np.float64] = features_RF @ self.weights_F + self.intercept
        return predicted


def fit_head(features_RF: Matrix, difference_R: NDArray[np.float64]) -> Head:
    """Fit by ridge regression; the penalty is the best of `PENALTIES` by cross-validation.

    Dense features are brought to one scale first. Sparse ones are taken as they are, but for the
    last, the reference's loss.

    Args:
        features_RF: Of the rows to learn from.
        difference_R: Their difference scores.
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, KFold

    scale_F = _scale(features_RF)
    scaled_RF = _scaled(features_RF, scale_F)
    search = GridSearchCV(
        Ridge(), {"alpha": PENALTIES}, cv=KFold(FOLDS), scoring="neg_mean_squared_error"
    )
    search.fit(scaled_RF, difference_R)
    best = search.best_estimator_
    return Head(best.coef_ / scale_F, float(best.intercept_), float(best.alpha))


def _scale(features_RF: Matrix) -> NDArray[np.float64]:
    """What features are divided by, `[F]`."""
    if isinstance(features_RF, np.ndarray):
        spread_F = features_RF.std(axis=0, dtype=np.float64)
        return np.where(spread_F > _LEAST_SPREAD, spread_F, 1.0)
    scale_F = np.ones(features_RF.shape[1])
    scale_F[-1] = max(float(features_RF[:, -1].toarray().std()), _LEAST_SPREAD)
    return scale_F


def _scaled(features_RF: Matrix, scale_F: NDArray[np.float64]) -> Matrix:
    if isinstance(features_RF, np.ndarray):
        return features_RF / scale_F
    from scipy.sparse import diags

    scaled: csr_matrix = features_RF @ diags(1 / scale_F)
    return scaled
