//! A producer that is paced, and sends again what did not arrive.

use crate::statistics::Listener;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
};
use std::{
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tidegate::{Backoff, Outcome, Pacer};

#[derive(Clone)]
pub struct Producer {
    kafka: FutureProducer<Listener>,
    pacer: Pacer,
    topic: &'static str,
    /// How often anything was sent.
    pub tries: Arc<AtomicU32>,
    /// How long answers took since this was emptied.
    took: Arc<Mutex<Vec<Duration>>>,
}

impl Producer {
    /// Tries again by itself, because librdkafka knows neither the pacer nor its breaker.
    ///
    /// # Errors
    ///
    /// If a setting is wrong.
    pub fn new(servers: &str, topic: &'static str, pacer: &Pacer) -> Result<Self, KafkaError> {
        let kafka = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("acks", "all")
            .set("message.send.max.retries", "0")
            .set("message.timeout.ms", "1000")
            .set("reconnect.backoff.max.ms", "250")
            .set("statistics.interval.ms", "200")
            .create_with_context(Listener::new(pacer))?;
        Ok(Self { kafka, pacer: pacer.clone(), topic, tries: Arc::default(), took: Arc::default() })
    }

    /// Sends a record of so many bytes until it is acknowledged. What was not acknowledged may have arrived all the same.
    ///
    /// # Errors
    ///
    /// If the pacer rejects it.
    pub async fn send(&self, id: u32, bytes: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        while !self.try_once(id, bytes).await? {
            self.pacer.back_off(&mut backoff).await;
        }
        Ok(())
    }

    async fn try_once(&self, id: u32, bytes: u32) -> Result<bool, Box<dyn Error + Send + Sync>> {
        self.pacer.until_ready(self.topic, [("records", 1), ("bytes", bytes)]).await?;
        self.tries.fetch_add(1, Relaxed);
        let (key, payload, start) = (id.to_string(), vec![0; bytes as usize], Instant::now());
        let record = FutureRecord::to(self.topic).key(&key).payload(&payload);
        let result = match self.kafka.send_result(record) {
            Ok(delivery) => delivery.await?.map(|_| ()).map_err(|(error, _)| error),
            Err((error, _)) => Err(error),
        };
        let took = start.elapsed();
        self.took.lock().unwrap_or_else(PoisonError::into_inner).push(took);
        let outcome = match &result {
            Ok(()) => Outcome::done(),
            Err(error) => Outcome::failed(class(error)),
        };
        self.pacer.report(&outcome.took(took));
        Ok(result.is_ok())
    }

    /// How many wait to be sent.
    pub fn waiting(&self) -> usize {
        self.pacer.waiting()
    }

    /// The mean of how long answers took since the last call, if any came.
    pub fn mean(&self) -> Option<Duration> {
        let took = std::mem::take(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner));
        let count = u32::try_from(took.len()).ok().filter(|count| *count > 0)?;
        Some(took.iter().sum::<Duration>() / count)
    }
}

/// One of few sorts of errors.
fn class(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| "error".to_owned(), |code| format!("{code:?}"))
}
