//! What requests came to, for the access log and the metrics.

mod entry;
mod escape;
mod line;
mod meters;
mod redact;
mod sink;

use crate::{
    metrics::{self, LINES_LOST},
    settings::{LogFormat, LogSettings, LogTarget},
};
pub(crate) use entry::{Account, Sent};
use redact::Redact;
use sink::Sink;
use std::io;
use tidegate::Limiter;

/// Who is told what requests came to.
#[derive(Debug)]
pub(crate) struct Accounts {
    format: LogFormat,
    redact: Redact,
    sink: Option<Sink>,
    is_metered: bool,
}

impl Accounts {
    /// Nothing where nobody wants to know.
    ///
    /// # Errors
    ///
    /// If the access log's file cannot be opened.
    pub(crate) fn open(settings: &LogSettings, limiter: &Limiter) -> io::Result<Option<Self>> {
        let is_metered = metrics::is_recorded();
        if settings.access.is_none() && !is_metered {
            return Ok(None);
        }
        let sink = settings.access.as_ref().map(Sink::open).transpose()?;
        let redact = Redact::new(&settings.redact, Some(limiter.clone()));
        Ok(Some(Self { format: settings.format, redact, sink, is_metered }))
    }

    /// Waits until all is written, though not for long.
    pub(crate) fn close(&self) {
        if let Some(sink) = &self.sink {
            sink.close();
        }
    }
}
