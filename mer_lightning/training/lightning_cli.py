"""`fit`, `validate`, `test` and `predict` on Lightning's command line."""

from __future__ import annotations

import copy
import importlib.util
import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import yaml
from jsonargparse._loaders_dumpers import yaml_load
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from mer_lightning import output
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Misused, Refusal, reading
from mer_lightning.evaluation.label_spaces import label_map
from mer_lightning.evaluation.protocols import Protocol, refuse_unknown
from mer_lightning.methods import names
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.loading import load_method
from mer_lightning.methods.phase import Phase, epochs_of
from mer_lightning.methods.places import only_known_imports, refuse_strange_classes
from mer_lightning.numerals import number
from mer_lightning.tasks import task_from_card
from mer_lightning.training.begun import refuse_other_run
from mer_lightning.training.callbacks import Announce, EndAtOnce, RunConfig, WriteResults
from mer_lightning.training.hints import Misuse, Parser
from mer_lightning.training.known_options import OF_ONE_COMMAND, OPTIONS
from mer_lightning.training.machine import make_ready
from mer_lightning.training.phases import fit_phases
from mer_lightning.training.processes import processes_of_one_run
from mer_lightning.training.progress import FitProgress
from mer_lightning.training.run_folder import BEST, forget_run_folder, marked_if_diverged, new_run_folder
from mer_lightning.yaml_text import from_yaml

_TRAINER_DEFAULTS = {
    "max_epochs": 40,
    "use_distributed_sampler": False,  # the plans share out samples, and pad nothing in evaluation
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,  # one line of `Announce` says it
}

_WITH_VALUE = (
    *("seed_everything", "protocol", "mask_seed", "logger", "patience", "test_after_fit", "trainer.max_epochs"),
    *("data.corpus", "data.batch_size", "data.eval_batch_size", "data.seed", "model.class_path"),
)

LoggerName = Literal["csv", "tensorboard", "wandb"]

# {option: (type, default)}
_OPTIONS: dict[str, tuple[Any, Any]] = {
    "protocol": (str | list[str], "combinations"),
    "mask_seed": (int, 0),
    "name": (str | None, None),
    "run_dir": (str | None, None),
    "resume": (str | None, None),
    "logger": (LoggerName, "csv"),
    "patience": (int, 10),
    "test_after_fit": (bool, True),
}
_OF_ONE_COMMAND: dict[str, Any] = {"labels": dict[str, str] | None, "output": str | None}


class MERCLI(LightningCLI):
    """Lightning's command line, with a folder per run, protocols, and a test of the best checkpoint after fit."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only the one that was asked for: to build the parsers of all four takes a third of a small run's time."""
        asked = Parser.arguments[0]
        return {asked: LightningCLI.subcommands()[asked]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name, meaning in OPTIONS.items():
            kind, default = _OPTIONS[name]
            parser.add_argument(f"--{name}", type=kind, default=default, help=meaning)
        parser.link_arguments("data.dims", "model.init_args.dims", apply_on="instantiate")
        parser.link_arguments("data.task_card", "model.init_args.task_card", apply_on="instantiate")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        for name, meaning in OF_ONE_COMMAND.get(subcommand, {}).items():
            parser.add_argument(f"--{name}", type=_OF_ONE_COMMAND[name], default=None, help=meaning)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """As given to `run`; sys.argv stays as it is, because DDP starts its other processes from it."""
        self.config = parser.parse_args(args)
        refuse_strange_classes(self.config[self.config.subcommand])
        _refuse_no_value(self.config[self.config.subcommand])

    def _parse_ckpt_path(self) -> None:
        """Nothing: hyperparameters of a checkpoint never override the command line; `load_method` reads them."""

    def before_instantiate_classes(self) -> None:
        asked = self._get(self.config, "protocol")
        self.protocol_names = [asked] if isinstance(asked, str) else asked
        refuse_unknown(self.protocol_names)
        if self._get(self.config, "weights_only") is False:
            raise Refusal("weights_only", "true: a checkpoint that holds more may run anything", "false", "remove it")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand) | {"weights_only": True}
        if subcommand in ("validate", "test"):
            kwargs["verbose"] = False  # the table is ours
        # `load_method` has read the checkpoint, and Lightning would read it again.
        return kwargs if subcommand == "fit" else kwargs | {"ckpt_path": None}

    def instantiate_classes(self) -> None:
        with reading("the configuration", "options that fit each other", "mend it"):
            super().instantiate_classes()
        if self.subcommand != "fit":
            self.model = load_method(self._get(self.config, "ckpt_path"))
        if self.subcommand == "test" and (labels := self._get(self.config, "labels")):
            self.model.label_map = label_map(self.model.task, task_from_card(self.datamodule.task_card), labels)
        modalities = self.model.modalities_among(self.datamodule.dims)
        self.model.protocol = Protocol(self.protocol_names, self._get(self.config, "mask_seed"), modalities)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        # Data and model exist by now, so a run that could not start leaves no folder behind.
        model, data = (self._get(self.config, part) for part in ("model", "data"))
        trainer = self._get(self.config_init, "trainer")
        name, resume = (
            self._get(self.config, "name") or _default_name(model, data),
            bool(self._get(self.config, "resume")),
        )
        parent = _parent(self.subcommand, name)
        self.folder = new_run_folder(self._get(self.config, "run_dir"), parent, resume)
        if resume:
            resolved = self._parser(self.subcommand).dump(self.config[str(self.subcommand)], skip_none=False)
            card = self.datamodule.corpus.card
            refuse_other_run(self.folder, resolved, card.label, card.sha256)
        self.writer = WriteResults(self.folder, seed=int(self._get(self.config, "seed_everything")))
        self.launchers: list[Any] = []  # of the trainers of all phases; the first one has started DDP's processes
        self.own_callbacks = [Announce(self.folder), EndAtOnce(), self.writer]
        self.user_callbacks = trainer.callbacks or []
        self.run_logger: Any = trainer.logger
        if trainer.logger in (None, True):
            tags = [_last_module(model.class_path), _last_module(model.init_args.backbone.class_path)]
            tags.append(Path(data.corpus).stem[:64])
            self.run_logger = _logger(self._get(self.config, "logger"), self.folder, name, tags)
        if self.run_logger is not False:
            # A report and a sweep read what the folder holds, wherever else it is sent.
            others = self.run_logger if isinstance(self.run_logger, list) else [self.run_logger]
            self.run_logger = [_csv_logger(self.folder), *filter(None, others)]
        return self._trainer()

    def _trainer(self, callbacks: Sequence[Callback] = (), **kwargs: Any) -> Trainer:
        """One more Trainer: callbacks keep the state of a phase, so each phase needs fresh ones."""
        progress = [] if self._get(self.config_init, "trainer").enable_progress_bar is False else [FitProgress()]
        self.trainer_defaults["callbacks"] = [*self.own_callbacks, *callbacks, *progress]
        kwargs |= {"callbacks": copy.deepcopy(self.user_callbacks), "default_root_dir": str(self.folder)}
        trainer = super().instantiate_trainer(logger=self.run_logger, **kwargs)
        self.launchers.append(trainer.strategy.launcher)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            with marked_if_diverged(self.folder, lambda: self.trainer.is_global_zero):
                super()._run_subcommand(subcommand)
        except BaseException:
            for launcher in self.launchers:  # its processes would wait for this one
                if isinstance(launcher, _SubprocessScriptLauncher):
                    launcher.kill(signal.SIGKILL)
            raise

    def fit(self, model: MERMethod, ckpt_path: str | None = None, **_: Any) -> None:
        """What `fit` runs in place of Trainer.fit: the method's phases."""
        given = self._get(self.config_init, "trainer")

        def trainer_for(phase: Phase, callbacks: list[Callback]) -> Trainer:
            if given.fast_dev_run:
                callbacks = []
            epochs = epochs_of(model.phases(), given.max_epochs)
            self.trainer = self._trainer(callbacks, max_epochs=epochs[phase.name])
            return self.trainer

        seed, patience = int(self._get(self.config, "seed_everything")), self._get(self.config, "patience")
        fit_phases(model, self.datamodule, self.folder, trainer_for, seed, patience, ckpt_path)

    def after_fit(self) -> None:
        if self._get(self.config, "test_after_fit") and not self._get(self.config, "trainer").fast_dev_run:
            best = str(self.folder / BEST)
            self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, verbose=False, weights_only=True)
            self.after_test()
        elif self.trainer.is_global_zero:
            output.give({"run": self.folder}, lambda: print(f"{self.folder}: config, checkpoints"))

    def after_validate(self) -> None:
        metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        if self.trainer.is_global_zero:
            lines = [f"{name:20} {number(value)}" for name, value in metrics.items()]
            output.give({"run": self.folder, "metrics": metrics}, lambda: print("\n".join(lines)))

    def after_test(self) -> None:
        self.writer.show()

    def after_predict(self) -> None:
        from mer_lightning.training.prediction import write_predictions

        if self.trainer.is_global_zero:
            write_predictions(self.model, self.datamodule, self._get(self.config, "output"), self.folder)


class _WithoutTable(MERCLI):
    """In Python, results show themselves where somebody asks for them."""

    def after_test(self) -> None:
        pass


def run_resolved(args: list[str], show: bool = True) -> MERCLI:
    """What is left to do for `starting.run`, which has made class paths of short names."""
    _quiet()
    make_ready()
    jsonargparse.set_loader("yaml", _load_yaml, exceptions=(yaml.YAMLError,))
    Parser.arguments = args
    try:
        with only_known_imports(), processes_of_one_run():
            return (MERCLI if show else _WithoutTable)(
                model_class=MERMethod,
                datamodule_class=MERData,
                subclass_mode_model=True,
                save_config_callback=RunConfig,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults=dict(_TRAINER_DEFAULTS),
                seed_everything_default=1111,
                auto_configure_optimizers=False,
                parser_class=Parser,
                args=args,
            )
    except Misuse as misuse:
        raise Misused(misuse.line) from None
    finally:
        forget_run_folder()
        if "wandb" in sys.modules:  # else the next run of this process would write into this one
            sys.modules["wandb"].finish()


def _refuse_no_value(config: jsonargparse.Namespace) -> None:
    """jsonargparse takes null for every option, whatever its type is."""
    for option in _WITH_VALUE:
        if option in config and config[option] is None:
            raise Refusal(option, "a value", "null", "write one, or leave the option out")
    if not 0 <= int(config.seed_everything) < 2**32:
        raise Refusal("seed_everything", "a number from 0 to 4294967295", str(config.seed_everything), "choose another")


def _load_yaml(text: str) -> Any:
    return names.in_config(from_yaml(text, yaml_load))


def _default_name(model: Any, data: Any) -> str:
    return f"{_last_module(model.class_path)}_{Path(data.corpus).stem}" + ("_synthetic" if data.synthetic else "")


def _parent(subcommand: str | None, name: str) -> Path:
    root = Path("runs") / name
    return root if subcommand == "fit" else root / str(subcommand)


def _last_module(class_path: str) -> str:
    """The name of a method or backbone: that of its file."""
    return str(class_path).rsplit(".", 2)[-2]


def _csv_logger(folder: Path) -> CSVLogger:
    """A logger that finds its file deletes it; a run that goes on writes another one."""
    parts = sum(1 for _ in (folder / "logs").rglob("metrics.csv"))
    return CSVLogger(save_dir=folder, name="logs", version=f"resumed-{parts}" if parts else "")


def _logger(name: LoggerName, folder: Path, group: str, tags: list[str]) -> Logger | None:
    """Where metrics go beside the run's own CSV; None for nowhere else."""
    if name == "csv":
        return None
    if name == "tensorboard":
        if importlib.util.find_spec("tensorboard") is None:
            remedy = "pip install 'mer-lightning[tensorboard]'"
            raise Refusal("--logger tensorboard", "the package tensorboard", "none", remedy)
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(save_dir=folder, name="logs", version="")
    from mer_lightning.training.wandb_logger import wandb_logger

    return wandb_logger(folder, group, tags)


def _quiet() -> None:
    """Silences warnings of Lightning that do not apply here, such as those on gathering, and its advertising."""
    for package in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*sync_dist=True.*",
        ".*predict returned None.*",
        ".*module\\(s\\) in eval mode.*",
        ".*when using `ckpt_path`, callbacks used to create.*",
        ".*The number of training batches.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
