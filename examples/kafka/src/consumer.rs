//! A consumer that is paced, and stays away for a while after failed reads and rebalances.

use crate::statistics::Listener;
use rdkafka::{
    ClientConfig, Message,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
};
use std::{
    collections::HashMap,
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tidegate::{Backoff, Pacer};

/// What the consumers of a group did.
#[derive(Default)]
pub struct Tally {
    /// How often each record was read.
    pub read: Mutex<HashMap<String, u32>>,
    pub failed: AtomicU32,
    pub rebalances: AtomicU32,
}

impl Tally {
    /// How many records were read, and how many reads were of one that had been read before.
    pub fn read(&self) -> (usize, u32) {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        (read.len(), read.values().map(|times| times - 1).sum())
    }
}

/// Reads a topic as one of a group, until it is dropped.
///
/// # Errors
///
/// If a setting is wrong, or the pacer rejects a read.
pub async fn consume(
    servers: &str,
    topic: &str,
    pacer: Pacer,
    tally: Arc<Tally>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let consumer: StreamConsumer<Listener> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "readers")
        // Lag is counted from what was committed.
        .set("auto.commit.interval.ms", "200")
        .set("auto.offset.reset", "earliest")
        .set("heartbeat.interval.ms", "200")
        .set("session.timeout.ms", "6000")
        .set("fetch.error.backoff.ms", "50")
        .set("statistics.interval.ms", "200")
        .create_with_context(Listener::new(&pacer))?;
    consumer.subscribe(&[topic])?;
    let millis = Duration::from_millis;
    let (mut after_failure, mut after_rebalance) =
        (Backoff::new(millis(20), millis(500)), Backoff::new(millis(50), millis(1_000)));
    let mut seen = 0;
    loop {
        let rebalances = consumer.context().rebalances.load(Relaxed);
        if rebalances > seen {
            tally.rebalances.fetch_add(rebalances - seen, Relaxed);
            seen = rebalances;
            pacer.back_off(&mut after_rebalance).await;
        }
        let paced = pacer.until_ready("reader", 1).await?;
        match tokio::time::timeout(millis(100), consumer.recv()).await {
            Ok(Ok(record)) => {
                after_failure.reset();
                let key = record.key().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
                *tally.read.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
            }
            Ok(Err(KafkaError::MessageConsumption(_))) => {
                tally.failed.fetch_add(1, Relaxed);
                pacer.back_off(&mut after_failure).await;
            }
            Ok(Err(error)) => return Err(error.into()),
            // Nothing was read, so nothing is to be paid; and rebalances are over.
            Err(_) => {
                pacer.refund(&paced);
                after_rebalance.reset();
            }
        }
    }
}
