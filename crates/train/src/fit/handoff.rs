//! How the state of Burn's `Learner` comes to us.
//!
//! The learner's optimizer is private; it is handed only to Burn's `LearningCheckpointer`, as records. [`Handoff`] is a
//! checkpointer that passes each record on through a channel, so that one atomic checkpoint can be made of them.

use burn::{
    lr_scheduler::LrSchedulerRecord,
    optim::OptimizerRecord,
    store::ModuleRecord,
    train::{
        Learner, LearnerModel, LearningCheckpointer,
        checkpoint::{Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy},
        metric::store::EventStoreClient,
    },
};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Passes on every record that is to be saved; has nothing to restore.
pub(super) struct Handoff<R>(Sender<R>);

impl<R: Checkpoint> Checkpointer<R> for Handoff<R> {
    fn save(&self, _: usize, record: R) -> Result<(), CheckpointerError> {
        self.0.send(record).map_err(|_| CheckpointerError::Unknown("nobody takes the record".into()))
    }

    fn delete(&self, _: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, _: usize) -> Result<R, CheckpointerError> {
        Err(CheckpointerError::Unknown("a record that was handed over is not kept".into()))
    }
}

/// Says `Save` whenever it is asked.
pub(super) struct Always;

impl CheckpointingStrategy for Always {
    fn checkpointing(&mut self, _: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        vec![CheckpointingAction::Save]
    }
}

/// The ends from which records come.
pub(super) struct Records {
    model: Receiver<ModuleRecord>,
    optimizer: Receiver<OptimizerRecord>,
    /// The learning rate follows from the step; its record is taken so that the channel stays open.
    learning_rate: Receiver<LrSchedulerRecord>,
}

/// Checkpointers to be given to Burn.
pub(super) struct Handoffs {
    pub(super) model: Handoff<ModuleRecord>,
    pub(super) optimizer: Handoff<OptimizerRecord>,
    pub(super) learning_rate: Handoff<LrSchedulerRecord>,
}

/// Checkpointers, and where their records come out.
pub(super) fn handoff() -> (Handoffs, Records) {
    let ((model_in, model), (optimizer_in, optimizer), (rate_in, learning_rate)) = (channel(), channel(), channel());
    let handoffs = Handoffs { model: Handoff(model_in), optimizer: Handoff(optimizer_in), learning_rate: Handoff(rate_in) };
    (handoffs, Records { model, optimizer, learning_rate })
}

impl Records {
    /// The records of `learner` as it stands.
    pub(super) fn take<M: LearnerModel>(
        &self,
        checkpointer: &mut LearningCheckpointer<M>,
        learner: &Learner<M>,
        store: &EventStoreClient,
    ) -> (ModuleRecord, OptimizerRecord) {
        // Running statistics are one update behind until someone asks for a validation model.
        learner.model().valid();
        checkpointer.checkpoint(learner, 0, store);
        let alive = "the checkpointer holds the other end of the channel";
        self.learning_rate.recv().expect(alive);
        (self.model.recv().expect(alive), self.optimizer.recv().expect(alive))
    }
}
