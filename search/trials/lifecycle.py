"""The life of one training, of a trial or of a finalist: begun, reported, then stored or left."""

from collections.abc import Callable
from dataclasses import dataclass

from search.training.checkpoints import checkpoint_at
from search.training.drafts import discard, publish
from search.training.job import Job
from search.training.listener import ProgressListener
from search.training.row import Trained
from search.workers import crashes
from search.workers.executor import Executor, Failure
from search.workers.worker import Worker
from trainers.engine.result import Epoch, StopTraining


@dataclass(frozen=True, slots=True)
class Trainings:
    """Starts a worker's trainings and puts their files where they belong."""

    worker: Worker
    executor: Executor
    listener: ProgressListener

    def start(
        self,
        job: Job,
        label: str,
        words: str,
        *,
        is_hopeless: Callable[[Epoch], bool] = lambda epoch: False,
        ended: Callable[[Trained | Failure], None],
        left: Callable[[], None] = lambda: None,
    ) -> None:
        """Train a student whose lease this worker has.

        Args:
            label: of the training, for people; words: the student's, likewise.
            is_hopeless: asked after every epoch; True ends the training as pruned. It may raise
                `StopTraining`.
            ended: given what was trained, or why it failed. It has to store it.
            left: called when the training was left for another process to go on with; its lease
                is given back.
        """
        worker, epochs = self.worker, job.recipe.epochs
        self.listener.began(label, words, epochs)

        def report(epoch: Epoch) -> bool:
            if not worker.holds(job.key):
                raise StopTraining(keep=False)
            if is_hopeless(epoch):
                return True
            if worker.stop_request.asked and epoch.epoch < epochs:
                raise StopTraining(keep=True)
            return False

        def done(trained: Trained | Failure | StopTraining) -> None:
            self.listener.ended(label)
            if isinstance(trained, StopTraining):
                worker.release(job.key)
                left()
            else:
                ended(trained)

        failure = crashes.failure(worker.crashes(job.key), label, self.listener.message)
        if failure is not None:
            done(failure)
            return
        self.executor.start(job._replace(draft=worker.draft(job.key)), report, done)

    def publish(self, key: str) -> None:
        """Move a training's files to their place; called while its end is stored."""
        publish(self.worker.folder, key, self.worker.draft(key))

    def stored(self, key: str, label: str, is_ours: bool) -> None:
        """Tidy up after a training whose end was given to the database.

        Args:
            is_ours: False where another worker had taken it over, because this process was
                stopped for long: what was trained here is dropped.
        """
        folder = self.worker.folder
        if is_ours:
            # Only now: a training whose end is not yet stored goes on from its checkpoint.
            checkpoint_at(folder, key).remove()
            return
        self.worker.release(key)
        discard(folder, self.worker.draft(key))
        self.listener.message(f"{label} was taken over by another worker: dropped here")
