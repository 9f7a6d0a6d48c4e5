"""A model folder that is whole: all that an honest answer needs.

``model.safetensors`` (weights and constants), ``card.json`` (class table,
temperature, thresholds, what it was trained on, commit, a hash of every
file and of itself) and, with a range prior, ``prior.parquet``.
"""

import hashlib
import json
import subprocess
import tempfile
import textwrap
from contextlib import ExitStack
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

import geotree
from geotree import checks, files, hub, network
from geotree.models import facts
from geotree.models.parts import Unfilled

WEIGHTS, CARD = "model.safetensors", "card.json"
# Tables beside the weights, where there are any.
TABLES = {"prior": "prior.parquet", "held": "held.parquet"}


class Whole:
    """What a model holds beside its weights; ``training.fit`` fills it in.

    Attributes
    ----------
    classes : DataFrame or None
        Class table of the species that it was trained on.
    temperature : float
        Of ``calibration.soften``, fitted on validation samples.
    thresholds : dict of float
        Coverage → least softened probability at which a class enters a
        prediction set.
    held : DataFrame or None
        Validation samples: ``species``, place, and their image ``features``
        (D,). Sets for any list, coverage and prior are fitted on them.
    prior : DataFrame or None
        Records of the range prior; its weight is ``card["prior_weight"]``.
    card : dict
        Settings, data, metrics, versions.
    """

    classes: pd.DataFrame | None = None
    temperature: float = 1.0
    thresholds: dict[float, float] = {}
    held: pd.DataFrame | None = None
    prior: pd.DataFrame | None = None
    card: dict = {}

    @classmethod
    def from_pretrained(cls, source: str | Path, *,
                        revision: str | None = None):
        """Read a model folder, or that of a hub id; it is in eval mode.

        The class is made from its ``Config``, a dataclass, if it has one.

        Raises
        ------
        FileNotFoundError, ValueError
            No model there, damaged, or the weights of another one.
        """
        folder = find(source, revision=revision)
        card = read_card(folder)
        if card.get("model") != cls.__name__:
            raise ValueError(f"'{folder}' holds a {card.get('model')}, "
                             f"expected a {cls.__name__}.")
        try:
            if hasattr(cls, "Config"):
                config = cls.Config(**card["config"])
                _fits(partial(cls, config), folder)
                model = cls(config)
            else:
                model = cls()
        except (TypeError, RuntimeError, ValueError) as error:
            raise ValueError(f"'{folder}' is damaged, or of another version "
                             f"of {cls.__name__}: {error}") from error
        return load(model, folder, card)

    def save_pretrained(self, folder: str | Path, *,
                        card: dict | None = None) -> Path:
        """Write weights and tables, and the card that knows their hash.

        A model that was there is replaced when all is written; who else
        writes there is waited for. ``card`` adds to ``model.card``.
        """
        from safetensors.torch import save

        folder = files.named(folder)
        contents = {WEIGHTS: save({
            name: value.detach().cpu().contiguous()
            for name, value in self.state_dict().items()})}
        facts.finite(self, where="the model")
        contents |= {file: facts.stored(value, name)
                     for name, file in TABLES.items()
                     if (value := getattr(self, name)) is not None}
        config = getattr(self, "config", None)
        card = {**checks.by_name(self.card, "model.card"),
                **checks.by_name(card or {}, "card"),
                "model": type(self).__name__, "geotree": geotree.__version__,
                "config": asdict(config) if is_dataclass(config) else {},
                "commit": commit(), "thresholds": self.thresholds,
                "classes": self.classes, "temperature": self.temperature,
                "files": {name: hashlib.sha256(data).hexdigest()
                          for name, data in contents.items()}}
        card = json.loads(json.dumps(card, default=_plain))
        facts.told(card, where="the model")  # or load would refuse it
        card["sha256"] = _digest(card)
        text = json.dumps(card, indent=1, ensure_ascii=False)
        with files.lock(folder, wait=-1), ExitStack() as stack:
            # The last to be replaced comes first.
            for name, data in ({CARD: text.encode()} | contents).items():
                stack.enter_context(files.whole(folder / name)
                                    ).write_bytes(data)
        return folder

    def push_to_hub(self, repo: str, *, private: bool = False,
                    card: dict | None = None) -> str:
        """Write the model folder to a hub id; the commit it became.

        With the token of ``huggingface-cli login``, or ``HF_TOKEN``.
        """
        from huggingface_hub import HfApi

        hub = HfApi()
        hub.create_repo(repo, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            path = self.save_pretrained(Path(folder) / "model", card=card)
            return hub.upload_folder(repo_id=repo, folder_path=path,
                                     commit_message="A model folder").oid


def find(source: str | Path, *, revision: str | None = None) -> Path:
    """A model folder, or that of a hub id in the cache of the hub.

    Raises
    ------
    FileNotFoundError
        No such folder, and no hub id that can be had.
    """
    path = files.named(source)
    if path.exists():
        return path
    try:
        folder = hub.hub_file(str(source), CARD, revision=revision).parent
        for name in read_card(folder)["files"]:
            hub.hub_file(str(source), name, revision=folder.name)
    except network.ServiceError as error:
        raise FileNotFoundError(
            f"no model '{source}': there is no folder that save_pretrained "
            f"wrote, and {error}"
        ) from error
    return folder


def read_card(folder: str | Path) -> dict:
    """The card of a saved model, as it was written."""
    path = files.named(folder) / CARD
    if not path.is_file():
        raise FileNotFoundError(
            f"no model in '{folder}': it has no {CARD}. Expected a folder "
            "that model.save_pretrained wrote.")
    card = files.read_json(path, what="model card")
    if card.pop("sha256", None) != _digest(card):
        raise ValueError(
            f"'{path}' does not have the SHA-256 that it says it has: "
            "damaged, changed by hand, or of an older version. Copy it "
            "again, or write it with model.save_pretrained(card=…).")
    if ([type(card.get(name)) for name in ("config", "files", "model")]
            != [dict, dict, str]
            or not isinstance(card.get("thresholds") or {}, dict)
            or not {WEIGHTS} <= card["files"].keys() <= {
                WEIGHTS, *TABLES.values()}):
        raise ValueError(f"'{path}' is not the card of a model folder: "
                         f"expected 'config' and the 'files' {WEIGHTS} and, "
                         f"where there are any, {', '.join(TABLES.values())}.")
    return card


def load(model: nn.Module, folder: str | Path, card: dict) -> nn.Module:
    """Fill ``model`` from ``folder``; refuse what does not fit or changed."""
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    folder, paths = files.named(folder), {}
    for name, expected in card["files"].items():
        path = paths[name] = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"'{folder}' has a card but no {name}. "
                                    "Copy it there, or save the model again.")
        if (found := files.sha256(path)) != expected:
            raise ValueError(
                f"'{path}' has SHA-256 {found[:12]}…, its card says "
                f"{str(expected)[:12]}…: damaged, or of another model. Copy "
                "both files again.")
    try:
        state = from_bytes(paths[WEIGHTS].read_bytes())
    except SafetensorError as error:
        raise ValueError(f"'{paths[WEIGHTS]}' is not a safetensors file "
                         f"({error}). Copy it again.") from error
    load_state(model, state, where=f"'{paths[WEIGHTS]}'")
    facts.finite(model, where=f"'{paths[WEIGHTS]}'")
    for name, value in facts.told(card, where=f"'{folder / CARD}'").items():
        setattr(model, name, value)
    for name, file in TABLES.items():
        try:
            setattr(model, name, checks.columns(
                pd.read_parquet(paths[file]), facts.COLUMNS[name], where="it")
                if file in paths else None)
        except Exception as error:  # whatever another writer made of it
            raise ValueError(f"'{paths[file]}' is no table ({error}). Save "
                             "the model again.") from error
    model.card = card
    return model.eval()


def _fits(build, folder: Path) -> None:
    """Refuse a card of a larger model than its weights, memory unasked."""
    with torch.device("meta"), Unfilled():
        values = sum(one.numel() for one in build().state_dict().values())
    size = path.stat().st_size if (path := folder / WEIGHTS).exists() else 0
    if size and values > size:  # load says which file is not there
        raise ValueError(f"the card of '{folder}' tells of {values:,} "
                         f"weights, and '{WEIGHTS}' has {size:,} bytes. "
                         "Fetch the folder again.")


def load_state(model: nn.Module, state: dict[str, Tensor], *,
               where: str) -> None:
    """``load_state_dict`` whose error says where, and what to do."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        problems = [textwrap.shorten(line, 200)
                    for line in str(error).splitlines()[1:]]
        raise ValueError(
            f"{where} holds another model than this {type(model).__name__}: "
            f"{checks.few(sorted(problems))} Build the model with the "
            "configuration it was trained with; weights of an older GeoTree "
            "have other parts and have to be trained again.") from error


def commit() -> str | None:
    """Last commit that touched the module; None outside a git checkout."""
    command = ["git", "log", "-1", "--format=%H", "--", "."]
    try:
        done = subprocess.run(command, cwd=Path(geotree.__file__).parent,
                              capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _digest(card: dict) -> str:
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()
                          ).hexdigest()


def _plain(value):
    """What JSON lacks: class tables, numpy scalars, paths."""
    if isinstance(value, pd.DataFrame):
        return value.to_dict(orient="list")
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"the card holds a {type(value).__name__}, expected "
                    "numbers, text, lists, dictionaries or class tables.")
