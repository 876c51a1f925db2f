//! Signals from an endpoint that Prometheus would scrape.

mod exposition;
mod fetch;

use super::timer::{first, sleep};
use crate::{BuildError, Event, Mistake, Pacer};
use exposition::{Fold, Wanted};
use fetch::Endpoint;
pub use fetch::ScrapeError;
use std::time::Duration;

/// Sets a pacer's signals from an endpoint in Prometheus' text format, again and again.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Feedback, Limit, Pacer, Quota, Scrape, Signals};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tidegate::BuildError> {
/// let feedback = Feedback::new()
///     .signal("cpu", 0.5, Duration::from_secs(30))
///     .rule(|signals: &Signals| if signals.get("cpu") > Some(0.9) { 0.5 } else { 1.0 });
/// let pacer = Pacer::new([Limit::shared("records", Quota::per_second(5_000))])?.feedback(feedback)?;
/// let scrape = Scrape::new("http://broker:7071/metrics")?
///     .every(Duration::from_secs(10))
///     .highest("cpu", r#"cpu_utilization{cluster="orders"}"#)?;
/// tokio::spawn(async move { scrape.run(&pacer).await });
/// # Ok(())
/// # }
/// ```
///
/// What is not there, or is no finite number, sets nothing; so what cannot be scraped any more goes over to its
/// [default](crate::Feedback::signal). The endpoint is trusted with the pacer's rate, and with no more: what it sends is read up to
/// a bound, and for a time.
#[derive(Debug, Clone)]
#[must_use = "it does nothing before it runs"]
pub struct Scrape {
    endpoint: Endpoint,
    wanted: Vec<Wanted>,
    every: Duration,
    timeout: Duration,
}

impl Scrape {
    /// Of an address such as `http://broker:7071/metrics`, every 5 seconds, within 2 seconds and a mebibyte.
    ///
    /// # Errors
    ///
    /// If that is no address over HTTP without TLS.
    pub fn new(url: &str) -> Result<Self, BuildError> {
        let endpoint = Endpoint::new(url).map_err(|reason| mistake("Scrape::new", reason))?;
        Ok(Self {
            endpoint,
            wanted: Vec::new(),
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
        })
    }

    /// How often it is scraped.
    pub fn every(self, time: Duration) -> Self {
        Self { every: time, ..self }
    }

    /// How long it may take to answer.
    pub fn timeout(self, most: Duration) -> Self {
        Self { timeout: most, ..self }
    }

    /// How many bytes of an answer are read; a longer one is an error.
    pub fn max_bytes(mut self, most: usize) -> Self {
        self.endpoint.max_bytes = most;
        self
    }

    /// Sets a signal to the sum of all samples of a metric, such as `consumer_lag`, or of those with some labels:
    /// `consumer_lag{topic="orders"}`.
    ///
    /// # Errors
    ///
    /// If that is no metric.
    pub fn sum(self, signal: impl Into<String>, metric: &str) -> Result<Self, BuildError> {
        self.want(signal.into(), metric, Fold::Sum)
    }

    /// The same with the highest of them.
    ///
    /// # Errors
    ///
    /// If that is no metric.
    pub fn highest(self, signal: impl Into<String>, metric: &str) -> Result<Self, BuildError> {
        self.want(signal.into(), metric, Fold::Highest)
    }

    fn want(mut self, signal: String, metric: &str, fold: Fold) -> Result<Self, BuildError> {
        let wanted = Wanted::new(signal, metric, fold).map_err(|reason| mistake("Scrape", reason))?;
        self.wanted.push(wanted);
        Ok(self)
    }

    /// Scrapes once, and answers with how many signals were set.
    ///
    /// # Errors
    ///
    /// If the endpoint does not answer as it should, or the pacer has no such signal.
    pub async fn once(&self, pacer: &Pacer) -> Result<usize, ScrapeError> {
        let fetched = first(self.endpoint.fetch(), sleep(self.timeout)).await;
        let text = fetched.unwrap_or(Err(ScrapeError::late(self.timeout)))?;
        let mut set = 0;
        for (wanted, value) in self.wanted.iter().zip(exposition::values(&text, &self.wanted)) {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                pacer.signal(&wanted.signal, value)?;
                set += 1;
            }
        }
        Ok(set)
    }

    /// Scrapes for ever. That it fails is told once, until it succeeds again.
    pub async fn run(&self, pacer: &Pacer) {
        let mut fails = false;
        loop {
            match self.once(pacer).await {
                Ok(_) => fails = false,
                Err(error) => {
                    if !std::mem::replace(&mut fails, true) {
                        pacer.emit(&Event::ScrapeFailed { error: &error.to_string() });
                    }
                }
            }
            sleep(self.every).await;
        }
    }
}

fn mistake(setting: &'static str, reason: String) -> BuildError {
    BuildError::one(Mistake::Setting { setting, reason })
}
