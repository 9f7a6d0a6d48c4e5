"""The 25 pixels of a tree: what they share, and what they tell of it.

Neighbours resemble each other, and bands of 20 m repeat one value over two
by two pixels, as they do in the archive. All of it is Gaussian in the
logarithm, so the likelihood is exact.
"""

import numpy as np
import pandas as pd

from geotree.planet import spectra
from geotree.planet.climate import TABLES
from geotree.planet.spectra import Scene
from geotree.variables import BANDS, MONTHS, PATCH

# s.d. in ln reflectance of one pixel, per band: all year, and of one date.
TEXTURE, PIXEL_NOISE, _CLOUD = map(np.array, TABLES["pixel"].values())
_REACH = 2.7  # pixels, of both (Matérn, 3/2)

_FINE = sum(band.resolution == 10 for band in BANDS)  # these come first
_COUNTS = _FINE, len(BANDS) - _FINE
_DISTANCE = np.maximum(*np.abs(np.mgrid[:PATCH, :PATCH] - PATCH // 2))
_CROWN = np.array([0.95, 0.75, 0.45])[_DISTANCE].ravel()


def _pixels(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Crown and unit field of cells that are ``side`` pixels wide.

    Returns
    -------
    (25,), (25, J)
        Pixels of one cell are equal.
    """
    place = np.mgrid[:PATCH, :PATCH].reshape(2, -1)
    cell = place[0] // side * PATCH + place[1] // side
    member = (cell[:, None] == np.unique(cell)).astype(float)  # (25, J)
    share = member / member.sum(axis=0)
    centre = place @ share  # (2, J)
    distance = np.sqrt(3) / _REACH * np.linalg.norm(
        centre[:, :, None] - centre[:, None], axis=0)
    return member @ (_CROWN @ share), member @ np.linalg.cholesky(
        (1 + distance) * np.exp(-distance))


_CROWNS, FIELDS = zip(_pixels(1), _pixels(2), strict=True)
# How much of each pixel belongs to the tree in the centre: (C, H, W).
CROWN = np.repeat(_CROWNS, _COUNTS, axis=0).reshape(-1, PATCH, PATCH)


def _weights(crown, field) -> tuple[np.ndarray, np.ndarray]:
    """Best linear estimate of tree and surroundings from 25 pixels.

    Returns
    -------
    (2, 25), (2, 2)
        Weights of the pixels, and the covariance for noise of one.
    """
    known = np.linalg.pinv(field)  # (J, 25) back to independent numbers
    design = known @ np.column_stack([crown, np.ones(PATCH**2)])
    covariance = np.linalg.inv(design.T @ design)
    return covariance @ design.T @ known, covariance


_WEIGHTS, _COVARIANCE = (
    np.repeat(part, _COUNTS, axis=0) for part in zip(
        *map(_weights, _CROWNS, FIELDS), strict=True))  # (C, 2, 25), (C, 2, 2)
_SIZES = [field.shape[1] for field in FIELDS]
DRAWS = {"tree": len(spectra.FACTORS), "date": MONTHS * len(BANDS),
         "lasting": len(spectra.LASTING),
         "passing": len(spectra.PASSING) * MONTHS,
         "own": len(spectra.PASSING) * MONTHS,
         "texture": sum(_SIZES)}
NOISE_DRAWS = MONTHS * int(np.dot(_COUNTS, _SIZES))


def _spread(normal, counts) -> np.ndarray:
    """Spatial fields of both resolutions: (..., sum of ``counts``, 25)."""
    parts = np.split(normal, [counts[0] * _SIZES[0]], axis=-1)
    return np.concatenate([
        part.reshape(*part.shape[:-1], count, -1) @ field.T.astype(part.dtype)
        for part, count, field in zip(parts, counts, FIELDS, strict=True)],
        axis=-2)


def draw(view: Scene, mean, loadings, normal: dict, noise) -> np.ndarray:
    """ln reflectance of N patches from standard normal numbers.

    Parameters
    ----------
    view : Scene of N places
    mean, loadings
        Of the trees, see :func:`geotree.planet.spectra.signal`.
    normal : dict
        (N, n) arrays by the names and sizes of ``DRAWS``.
    noise : (N, NOISE_DRAWS) float32

    Returns
    -------
    (N, T, C, H, W) float32
    """
    n = len(mean)
    tree = mean + np.einsum("nf,nftc->ntc", normal["tree"], loadings)
    tree += spectra.DATE_NOISE * normal["date"].reshape(tree.shape)
    own, passing = (np.einsum("nmt,nmtc->ntc", normal[name].reshape(
        n, -1, MONTHS), view.passing) for name in ("own", "passing"))
    tree += spectra.OWN * own
    level = view.around + passing + np.einsum(
        "nl,nltc->ntc", normal["lasting"], view.lasting)
    texture = np.repeat(_spread(normal["texture"], (1, 1)), _COUNTS, axis=1)
    patch = _spread(noise.reshape(n, MONTHS, -1), _COUNTS)
    patch *= PIXEL_NOISE[:, None].astype(np.float32)
    patch += (texture * TEXTURE[:, None]).astype(np.float32)[:, None]
    patch += ((tree - view.around).astype(np.float32)[..., None]
              * CROWN.reshape(len(BANDS), -1).astype(np.float32))
    patch += level.astype(np.float32)[..., None]
    return patch.reshape(n, MONTHS, len(BANDS), PATCH, PATCH)


def cloud(level) -> np.ndarray:
    """Reflectance of opaque cloud: (..., C, 1, 1) of levels 0 to 1."""
    return np.multiply.outer(0.6 + 0.4 * level, _CLOUD)[..., None, None]


def cloudy(images) -> np.ndarray:
    """Months in which a cloud hides the patch, flat as it is: (N, T)."""
    blue = images[:, :, 0]
    return (blue == blue[..., :1, :1]).all(axis=(-2, -1))


def log_likelihood(images, missing, traits: pd.DataFrame, view: Scene,
                   place: np.ndarray) -> np.ndarray:
    """Log density of images under species, up to a constant of the image.

    Parameters
    ----------
    images : (N, T, C, H, W) float64
        Reflectance; the values of missing months do not matter.
    missing : (N, T) bool
    traits : DataFrame, P rows
        One row for each pair of an image and a species in question.
    view : Scene of N places
    place : (P,) int
        The image of each pair.

    Returns
    -------
    (P,) float64

    Notes
    -----
    The pixels of one band and date are crown × tree + level + noise of one
    known spatial covariance, so two weighted means of them are sufficient.
    What passes and the noise are independent from date to date: whitened
    by month. The rest is a few factors; Woodbury inverts them.
    """
    pixels = np.log(images.clip(1e-4)).reshape(*images.shape[:3], -1)
    found = np.einsum("ntcp,csp->ntsc", pixels, _WEIGHTS)  # (N, T, 2, C)
    found[:, :, 0] += view.around
    found[:, :, 1] -= view.around
    whiten = _whiten(view) * ~missing[..., None, None]  # (N, T, 2C, 2C)
    flat = (*found.shape[:2], -1)
    found = np.einsum("ntij,ntj->nti", whiten, found.reshape(flat))
    lasting = np.concatenate([_two(1, view.lasting), _texture(view)], axis=1)
    lasting = np.einsum("ntij,nftj->nfti", whiten, lasting)
    mean, loadings = spectra.signal(
        traits, Scene(*(part[place] for part in view)))
    tree = np.concatenate([mean[:, None], loadings], axis=1)
    bands = len(BANDS)  # a tree is seen in the first mean alone
    tree = np.matmul(whiten[place][:, :, :, :bands],
                     tree.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    residual = (found[place] - tree[:, 0]).reshape(len(place), -1)
    factors = np.concatenate([tree[:, 1:], lasting[place]], axis=1)
    factors = factors.reshape(*factors.shape[:2], -1)
    inner = factors @ factors.transpose(0, 2, 1)
    inner += np.eye(inner.shape[1])
    projected = (factors @ residual[..., None])[..., 0]
    solved = np.linalg.solve(inner, projected[..., None])[..., 0]
    return -0.5 * ((residual**2).sum(axis=1) - (projected * solved).sum(axis=1)
                   + np.linalg.slogdet(inner)[1])


def _two(which: int, values) -> np.ndarray:
    """Values (..., C) as those of one of the two means: (..., 2C)."""
    other = np.zeros_like(values)
    return np.concatenate([other, values] if which else [values, other], -1)


def _texture(view) -> np.ndarray:
    """Loadings of both textures on both means: (N, 4, T, 2C)."""
    root = np.linalg.cholesky(_COVARIANCE)  # (C, 2, 2)
    fine = np.arange(len(BANDS)) < _FINE
    rows = [(root[:, :, column] * (TEXTURE * group)[:, None]).T.ravel()
            for group in (fine, ~fine) for column in (0, 1)]
    return np.broadcast_to(np.array(rows)[:, None], (
        len(view.rain), len(rows), MONTHS, 2 * len(BANDS)))


def _whiten(view) -> np.ndarray:
    """Inverse root of the covariance of one month: (N, T, 2C, 2C)."""
    noise = _COVARIANCE * (PIXEL_NOISE**2)[:, None, None]
    noise[:, 0, 0] += spectra.DATE_NOISE**2
    bands = len(BANDS)
    month = np.einsum("cij,cd->icjd", noise, np.eye(bands)).reshape(
        2 * bands, 2 * bands)
    passing = np.concatenate([_two(0, spectra.OWN * view.passing),
                              _two(1, view.passing)], axis=1)
    return np.linalg.inv(np.linalg.cholesky(
        month + np.einsum("nmti,nmtj->ntij", passing, passing)))
