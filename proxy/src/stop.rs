//! When the server stops.

use std::sync::OnceLock;
use tokio::{sync::watch, time::Instant};

/// Tells everybody who serves that the server stops.
#[derive(Debug)]
pub(crate) struct Stop {
    since: OnceLock<Instant>,
    told: watch::Sender<bool>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self { since: OnceLock::new(), told: watch::Sender::new(false) }
    }

    pub(crate) fn begin(&self) {
        self.since.get_or_init(Instant::now);
        self.told.send_replace(true);
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.since.get().is_some()
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        self.since.get().copied()
    }

    pub(crate) fn watch(&self) -> Stopping {
        Stopping { told: Some(self.told.subscribe()) }
    }
}

/// Waits for the server to stop.
#[derive(Debug)]
pub(crate) struct Stopping {
    told: Option<watch::Receiver<bool>>,
}

impl Stopping {
    /// Ready once, when the server stops.
    pub(crate) async fn begun(&mut self) {
        match &mut self.told {
            Some(told) => {
                let _ = told.wait_for(|begun| *begun).await;
                self.told = None;
            }
            None => std::future::pending().await,
        }
    }
}
