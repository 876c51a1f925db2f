//! What a Kafka client tells in its statistics and callbacks, for its pacer.

use rdkafka::{
    ClientContext, Statistics,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::KafkaError,
    statistics::{Broker, Window},
};
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};
use tidegate::{BuildError, Feedback, Pacer};

/// With the signals that statistics set, several times a second. After two seconds without, they go over to these values.
pub fn signals() -> Feedback {
    let fresh = Duration::from_secs(2);
    Feedback::new().signal("broker_ms", 5.0, fresh).signal("queue", 0.0, fresh).signal("lag", 0.0, fresh)
}

/// Sets the signals, and obeys throttle times like a `Retry-After`.
///
/// # Errors
///
/// If the pacer has other signals.
pub fn obey(pacer: &Pacer, statistics: &Statistics) -> Result<(), BuildError> {
    let windows = |of: fn(&Broker) -> &Option<Window>| {
        statistics.brokers.values().filter_map(move |broker| of(broker).as_ref().filter(|w| w.cnt > 0))
    };
    // Answers take microseconds, and throttle times are milliseconds.
    if let Some(micros) = windows(|broker| &broker.rtt).map(|window| window.avg).max() {
        pacer.signal("broker_ms", micros as f64 / 1_000.0)?;
    }
    pacer.signal("queue", statistics.msg_cnt as f64)?;
    let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
    // Others are read by other consumers.
    let own = partitions.filter(|partition| partition.fetch_state == "active" && partition.consumer_lag >= 0);
    let lag = own.map(|partition| partition.consumer_lag).reduce(|sum, lag| sum + lag);
    if let Some(lag) = lag {
        pacer.signal("lag", lag as f64)?;
    }
    let throttle = windows(|broker| &broker.throttle).map(|window| window.max).max().unwrap_or(0);
    pacer.pause(Duration::from_millis(u64::try_from(throttle).unwrap_or(0)));
    Ok(())
}

/// Listens to a client.
pub struct Listener {
    pub pacer: Pacer,
    /// How often partitions came or went.
    pub rebalances: AtomicU32,
    /// How often a broker could not be reached.
    pub errors: AtomicU32,
}

impl Listener {
    pub fn new(pacer: &Pacer) -> Self {
        Self { pacer: pacer.clone(), rebalances: AtomicU32::new(0), errors: AtomicU32::new(0) }
    }
}

impl ClientContext for Listener {
    fn stats(&self, statistics: Statistics) {
        if let Err(error) = obey(&self.pacer, &statistics) {
            eprintln!("{error}");
        }
    }

    fn error(&self, _: KafkaError, _: &str) {
        self.errors.fetch_add(1, Relaxed);
    }
}

impl ConsumerContext for Listener {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.rebalances.fetch_add(1, Relaxed);
    }
}
