use arkeep_core::job::JobError;
use tokio::sync::watch;

/// Why a job is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody cancelled it.
    Cancelled,
    /// The agent is about to end.
    Shutdown,
    /// Its deadline passed.
    Deadline,
}

impl StopReason {
    pub(super) fn error(self) -> JobError {
        let (code, detail) = match self {
            Self::Cancelled => ("cancelled", "the job was cancelled"),
            Self::Shutdown => ("agent_stopped", "the agent was stopped while the job ran"),
            Self::Deadline => ("deadline_passed", "the job did not end before its deadline"),
        };
        JobError {
            code: code.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    reason: Option<StopReason>,
    closing: bool,
}

/// The end of a job's line that asks it to stop. The first reason stays.
#[derive(Debug)]
pub(super) struct Stopper(watch::Sender<Asked>);

/// The end that is asked.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    asked: watch::Receiver<Asked>,
    at_shutdown_alone: bool,
}

pub(super) fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Asked::default());
    let stop = Stop {
        asked: receiver,
        at_shutdown_alone: false,
    };
    (Stopper(sender), stop)
}

impl Stopper {
    pub(super) fn stop(&self, reason: StopReason) {
        self.0.send_modify(|asked| {
            asked.reason.get_or_insert(reason);
            asked.closing |= reason == StopReason::Shutdown;
        });
    }
}

impl Stop {
    /// Heeds nothing but the end of the agent. What was interrupted has to be accounted for, and
    /// whoever cancels it wants to know what it left.
    pub(super) fn at_shutdown_alone(self) -> Self {
        Self {
            at_shutdown_alone: true,
            ..self
        }
    }

    pub(super) fn reason(&self) -> Option<StopReason> {
        let asked = *self.asked.borrow();
        match self.at_shutdown_alone {
            true => asked.closing.then_some(StopReason::Shutdown),
            false => asked.reason,
        }
    }

    /// Resolves when the job is to stop.
    pub(super) async fn asked(&self) {
        match self.at_shutdown_alone {
            true => self.closing().await,
            false => self.wait(|asked| asked.reason.is_some()).await,
        }
    }

    /// Resolves when the agent is about to end, also when the job was to stop before.
    pub(super) async fn closing(&self) {
        self.wait(|asked| asked.closing).await;
    }

    async fn wait(&self, asked: impl FnMut(&Asked) -> bool) {
        let mut receiver = self.asked.clone();
        if receiver.wait_for(asked).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}
