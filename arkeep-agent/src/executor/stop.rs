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
pub(super) struct Stop(watch::Receiver<Asked>);

pub(super) fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Asked::default());
    (Stopper(sender), Stop(receiver))
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
    pub(super) fn reason(&self) -> Option<StopReason> {
        self.0.borrow().reason
    }

    /// Resolves when the job is to stop.
    pub(super) async fn asked(&self) {
        self.wait(|asked| asked.reason.is_some()).await;
    }

    /// Resolves when the agent is about to end, also when the job was to stop before.
    pub(super) async fn closing(&self) {
        self.wait(|asked| asked.closing).await;
    }

    async fn wait(&self, asked: impl FnMut(&Asked) -> bool) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(asked).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }
}
