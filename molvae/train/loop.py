"""Fit a model to a dataset: one step after another until the first limit is reached.

In: a `Dataset`, a `Config`, a directory. Out: the model directory with checkpoints and ``metrics.jsonl``.

Several processes may share every step (`molvae.train.parallel`); the first of them validates and writes for all.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.config import Config
from molvae.data.batch import Batch, bucketed_rows, load_batch
from molvae.data.dataset import Dataset
from molvae.errors import ConfigError, InputError, TrainingError
from molvae.nn.device import bfloat16_pays
from molvae.nn.model import SequenceVAE
from molvae.objectives.objective import LossTerms, Objective
from molvae.train.evaluate import Evaluation, evaluate
from molvae.train.log import MetricsLog
from molvae.train.optim import AveragedWeights, build_optimizer, learning_rate
from molvae.train.parallel import add_up_gradients, divided, undivided_draws
from molvae.train.processes import ALONE, Share
from molvae.train.signals import StopRequest
from molvae.train.state import newest_state, restore_state, save_state

LOG_EVERY = 20
MAX_BAD_STEPS = 3


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    molecules: int = 0
    seconds: float = 0.0
    bad_steps: int = 0
    schedule: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Callbacks:
    """What the caller wants to hear; each gets plain values, so the loop knows nothing of molecules or screens.

    Attributes:
        on_metrics: a row of ``metrics.jsonl`` and the share of the run that is done (0 to 1).
        on_epoch: the model in evaluation mode with averaged weights, and the number of epochs finished.
        on_warning: a sentence.
    """

    on_metrics: Callable[[dict[str, Any], float], None] = lambda row, done: None
    on_epoch: Callable[[SequenceVAE, int], None] = lambda model, epoch: None
    on_warning: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class FitResult:
    """How a run ended: the model with its better weights, and the signal that stopped it, if one did."""

    model: SequenceVAE
    progress: Progress
    validation: Evaluation
    averaged: bool
    stopped_by: int | None


def fit(
    model: SequenceVAE, dataset: Dataset, config: Config, directory: Path, *,
    resume: bool = False, callbacks: Callbacks | None = None, share: Share = ALONE,
) -> FitResult:  # fmt: skip
    """Train ``model`` on the training split of ``dataset``.

    Checkpoints go to ``directory/checkpoints``; the caller writes the model itself. On CPU a run that was stopped or
    killed and resumed ends with the same weights as one that was not, when its end is set by steps or epochs.

    Args:
        model: on its device, freshly built from ``config``.
        resume: go on from the newest whole checkpoint, or start when there is none.
        share: the first of several processes; the others call `assist`.

    Raises:
        ConfigError: when no limit (epochs, max_steps, max_minutes) is set.
        InputError: when the training split is empty.
        TrainingError: when the loss is not finite several steps in a row, or another process is lost.
        ModelFileError: when a checkpoint does not fit the config.
    """
    trainer = _trainer(model, dataset, config, directory, callbacks or Callbacks(), share, resume)
    with StopRequest() as stop:
        trainer.run(stop)
        if trainer.saved_at != trainer.progress.step:
            trainer.save()
        averaged, validation = trainer.choose_weights()
        # A run that was killed after its last step has this row already.
        if stop.signal is None and not trainer.log.has("valid", trainer.progress.step):
            trainer.log_validation(validation)
    return FitResult(model, trainer.progress, validation, averaged, stop.signal)


def assist(
    model: SequenceVAE, dataset: Dataset, config: Config, directory: Path, share: Share, *, resume: bool = False
) -> int | None:
    """Do the share of one process in a training that the first process leads by `fit`, and write nothing.

    Returns the signal that stopped the training, if one did. Arguments and errors are those of `fit`.
    """
    with StopRequest() as stop:
        _trainer(model, dataset, config, directory, Callbacks(), share, resume).run(stop)
    return stop.signal


def _trainer(
    model: SequenceVAE, dataset: Dataset, config: Config, directory: Path, callbacks: Callbacks, share: Share,
    resume: bool,
) -> Trainer:  # fmt: skip
    """Return a trainer ready to run, after checking that it has data and an end."""
    if config.train.epochs is None and config.train.max_steps is None and config.train.max_minutes is None:
        raise ConfigError("Training has no end.", "Set train.epochs, train.max_steps or train.max_minutes.")
    if len(dataset.rows("train")) == 0:
        raise InputError(f"{dataset.directory} has no molecules to train on.", "Prepare it with a training split.")
    trainer = Trainer(model, dataset, config, directory, callbacks, share)
    if resume:
        trainer.restore()
    return trainer


class Trainer:
    """The state of one run and the moves that change it."""

    def __init__(
        self, model: SequenceVAE, dataset: Dataset, config: Config, directory: Path, callbacks: Callbacks,
        share: Share = ALONE,
    ) -> None:  # fmt: skip
        self.model, self.dataset, self.config, self.callbacks = model, dataset, config, callbacks
        self.directory, self.share = directory, share
        directory.mkdir(parents=True, exist_ok=True)
        self.train_rows, valid = dataset.rows("train"), dataset.rows("valid")
        picked = np.random.default_rng(config.seed).permutation(len(valid))[: config.train.validate_size]
        self.valid_rows = np.sort(valid[picked]) if len(valid) else self.train_rows[: config.train.validate_size]
        self.lengths = dataset.lengths[self.train_rows]
        self.objective = Objective(undivided_draws(config.objective, share))
        self.objective.prepare(model, config.prior)
        self.divided = divided(model, share, config.objective.samples_at_once)
        self.optimizer = build_optimizer(model, config.train)
        self.average = AveragedWeights(model, config.train.average) if config.train.average else None
        self.progress = Progress()
        self.log = MetricsLog(directory / "metrics.jsonl")
        self.saved_at = -1
        precision = config.train.precision
        self.bf16 = precision == "bf16" or (precision == "auto" and bfloat16_pays(model.device))
        self.batches_per_epoch = math.ceil(len(self.train_rows) / config.train.batch_size)

    def restore(self) -> None:
        """Go back to the newest whole checkpoint, and cut the log to its step."""
        checkpoint, passed = newest_state(self.directory / "checkpoints")
        for reason in passed:
            self.callbacks.on_warning(f"Passed over a damaged checkpoint: {reason}")
        if checkpoint is None:
            self.callbacks.on_warning("There is no checkpoint to resume from; training starts at step 0.")
            self._cut_log(-1)
            return
        self.progress = Progress(**self._restore_from(checkpoint))
        self.objective.schedule.state = dict(self.progress.schedule)
        self.saved_at = self.progress.step
        self._cut_log(self.progress.step)

    def _cut_log(self, step: int) -> None:
        if self.share.first:
            self.log.cut_after(step)

    def _restore_from(self, checkpoint: Path) -> dict[str, Any]:
        return restore_state(checkpoint, self.model, self.optimizer, self.average, self.objective.restore)

    def save(self) -> None:
        """Write a checkpoint of this step."""
        self.progress.schedule = dict(self.objective.schedule.state)
        save_state(
            self.directory / "checkpoints", self.model, self.optimizer, self.average, vars(self.progress),
            self.objective.tensors(),
        )  # fmt: skip
        self.saved_at = self.progress.step

    def done(self) -> float:
        """Return the share of the run behind us, by the limit that will be reached first; 1 or more ends it."""
        train, progress = self.config.train, self.progress
        shares = [0.0]
        if train.max_steps is not None:
            shares.append(progress.step / train.max_steps)
        if train.epochs is not None:
            shares.append(progress.step / (train.epochs * self.batches_per_epoch))
        if train.max_minutes is not None:
            shares.append(progress.seconds / 60 / train.max_minutes)
        return max(shares)

    def run(self, stop: StopRequest) -> None:
        """Take steps until a limit or a signal; the first process checkpoints, validates and reports on the way."""
        with self.share.connected(self.model.device):
            self._run(stop)

    def _goes_on(self, stop: StopRequest) -> bool:
        """Say whether there is another step, in every process the same."""
        signal, self.progress.seconds = self.share.agree(self.progress.step, stop.signal, self.progress.seconds)
        if signal is not None:
            stop.signal = signal
        # Not stop.signal: one that came since the processes agreed would stop this one alone.
        return signal is None and self.done() < 1

    def _run(self, stop: StopRequest) -> None:
        progress = self.progress
        since, molecules = time.perf_counter(), 0
        batches = self._batches()
        # Asked before the next batch is taken, because taking it moves the run's place in the epoch.
        while self._goes_on(stop):
            rows = next(batches)
            started = time.perf_counter()
            terms, norm = self.step(load_batch(self.dataset, rows).to(self.model.device))
            progress.seconds += time.perf_counter() - started
            progress.molecules += len(rows)
            molecules += len(rows)
            if not self.share.first:
                continue
            if progress.step % LOG_EVERY == 0 or progress.step == 1:
                self._log_step(terms, norm, molecules / (time.perf_counter() - since))
                since, molecules = time.perf_counter(), 0
            if self._after_step():
                since, molecules = time.perf_counter(), 0

    def _after_step(self) -> bool:
        """Validate, report an epoch and checkpoint when it is time; return whether it was validated."""
        train, progress = self.config.train, self.progress
        validated = progress.step % train.validate_every == 0 and train.validate_size > 0
        if validated:
            self._validate()
        if progress.batch == 0:
            self._with_average(lambda: self.callbacks.on_epoch(self.model, progress.epoch))
        if progress.step % train.checkpoint_every == 0:
            self.save()
        return validated

    def step(self, batch: Batch) -> tuple[LossTerms, float]:
        """Take one training step: loss, gradient, clipping, update, average.

        Returns the loss terms and the gradient's norm before clipping.

        Raises:
            TrainingError: after three steps in a row whose loss or gradient is not finite.
        """
        train, progress = self.config.train, self.progress
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, progress.step, self.done())
        # One generator a step: a resumed run draws the same noise without saving a random state.
        generator = torch.Generator(self.model.device).manual_seed(step_seed(self.config.seed, progress.step))
        if self.model.config.dropout:
            torch.manual_seed(step_seed(self.config.seed, progress.step) + self.share.rank)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.model.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            terms = self.objective(self.divided, batch, progress.step, generator)
        if terms.loss.requires_grad:  # not where a process has no rows and nothing else to learn from
            terms.loss.backward()  # type: ignore[no-untyped-call]
        add_up_gradients(self.model, self.share)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm))
        if math.isfinite(norm) and math.isfinite(terms.loss.item()):
            self.optimizer.step()
            self.objective.update_critic(terms)
            self.objective.schedule.observe(float(terms.rate))
            progress.bad_steps = 0
        else:
            self._skip_bad_step()
        progress.step += 1
        if self.average is not None:
            self.average.update(self.model, progress.step)
        return terms, norm

    def _skip_bad_step(self) -> None:
        self.progress.bad_steps += 1
        self.callbacks.on_warning(f"Step {self.progress.step}: loss or gradient is not finite; the update is skipped.")
        if self.progress.bad_steps >= MAX_BAD_STEPS:
            raise TrainingError(
                f"The loss was not finite {MAX_BAD_STEPS} steps in a row, at step {self.progress.step}.",
                "Resume from the last checkpoint with a lower rate: --resume --set train.lr=...",
            )

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        progress = self.progress
        while True:
            batches = bucketed_rows(
                self.train_rows, self.lengths, self.config.train.batch_size, self.config.seed, progress.epoch
            )
            if progress.batch >= len(batches):  # resumed on a smaller dataset
                progress.batch, progress.epoch = 0, progress.epoch + 1
                continue
            while progress.batch < len(batches):
                rows = batches[progress.batch]
                # Counted before the step is taken, so that a checkpoint made after it names the next batch.
                progress.batch += 1
                if progress.batch == len(batches):
                    progress.batch, progress.epoch = 0, progress.epoch + 1
                    yield rows
                    break
                yield rows

    def _log_step(self, terms: LossTerms, norm: float, rate: float) -> None:
        row = {
            "kind": "train", "step": self.progress.step, "epoch": round(self.epochs, 4),
            "loss": terms.loss.item(), "distortion": float(terms.distortion), "rate": float(terms.rate),
            "head": float(terms.head), "match": float(terms.match), "beta": terms.beta,
            "lr": self.optimizer.param_groups[0]["lr"], "grad_norm": norm, "molecules_per_s": round(rate, 1),
            "seconds": round(self.progress.seconds, 1),
        }  # fmt: skip
        self.log.append(row)
        self.callbacks.on_metrics(row, self.done())

    @property
    def epochs(self) -> float:
        """Epochs behind us, with fraction."""
        return self.progress.epoch + self.progress.batch / self.batches_per_epoch

    def _with_average(self, action: Callable[[], None]) -> None:
        self.model.eval()
        if self.average is not None:
            self.average.swap(self.model)
        try:
            action()
        finally:
            if self.average is not None:
                self.average.swap(self.model)

    def _evaluate(self) -> Evaluation:
        prior = self.objective.density(self.model)
        return evaluate(self.model, self.dataset, self.valid_rows, self.config.seed, prior=prior)

    def _validate(self) -> None:
        def measure() -> None:
            self.log_validation(self._evaluate())

        self._with_average(measure)

    def log_validation(self, found: Evaluation) -> None:
        """Append a validation row to the log and report it."""
        row = {"kind": "valid", "step": self.progress.step, "epoch": round(self.epochs, 4), **vars(found)}
        self.log.append(row)
        self.callbacks.on_metrics(row, self.done())

    def choose_weights(self) -> tuple[bool, Evaluation]:
        """Leave the better of last and averaged weights in the model, by distortion plus beta times rate."""
        beta = self.objective.schedule.weight(self.progress.step)

        def score(found: Evaluation) -> float:
            return found.distortion + beta * found.rate

        self.model.eval()
        last = self._evaluate()
        if self.average is None:
            return False, last
        self.average.swap(self.model)
        averaged = self._evaluate()
        if score(averaged) <= score(last):
            return True, averaged
        self.average.swap(self.model)
        return False, last


def step_seed(seed: int, step: int) -> int:
    """Return a 63-bit seed for one step of one run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8], "big") >> 1
