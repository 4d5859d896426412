"""A callback that stops the fit of a trial when Hyperband decides so."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

PRUNED = "pruned after"


class Pruning(Callback):
    """Reports the validation score of each epoch of the last phase, and stops the fit when the study says so.

    Args:
        storage: where the study is kept.
        study: its name.
        trial: the trial's number in the storage.
    """

    def __init__(self, storage: str, study: str, trial: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.trial = optuna.trial.Trial(optuna.load_study(study_name=study, storage=storage), trial)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        score = trainer.callback_metrics.get("valid/score")
        if score is None or not trainer.is_global_zero:  # an earlier phase
            return
        self.trial.report(float(score), trainer.current_epoch)
        if self.trial.should_prune():
            self.trial.set_user_attr(PRUNED, trainer.current_epoch)
            trainer.should_stop = True
