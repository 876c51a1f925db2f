//! What requests came to, for the access log.

mod entry;
mod escape;
mod line;
mod redact;
mod sink;

use crate::settings::{LogFormat, LogSettings, LogTarget};
pub(crate) use entry::{Account, Sent};
use redact::Redact;
use sink::Sink;
use std::io;
use tidegate::Limiter;

/// How many lines of the access log were lost.
const LINES_LOST: &str = "tidegate_proxy_access_log_lost_total";

/// Who is told what requests came to.
#[derive(Debug)]
pub(crate) struct Accounts {
    format: LogFormat,
    redact: Redact,
    sink: Option<Sink>,
}

impl Accounts {
    /// Nothing where nobody wants to know.
    ///
    /// # Errors
    ///
    /// If the access log's file cannot be opened.
    pub(crate) fn open(settings: &LogSettings, limiter: &Limiter) -> io::Result<Option<Self>> {
        let Some(target) = &settings.access else { return Ok(None) };
        let redact = Redact::new(settings.redact.iter().cloned().chain(limiter.key_parameters()));
        Ok(Some(Self { format: settings.format, redact, sink: Some(Sink::open(target)?) }))
    }

    /// Waits until all is written, though not for long.
    pub(crate) fn close(&self) {
        if let Some(sink) = &self.sink {
            sink.close();
        }
    }
}
