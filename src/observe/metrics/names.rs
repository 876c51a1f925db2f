//! All metrics there are.

/// Makes a constant of each name, what tells the recorder of them, and a list for the docs.
macro_rules! metrics {
    ($($name:ident = $kind:ident $text:literal $labels:literal in $unit:ident: $help:literal;)*) => {
        $(#[doc = $help] pub(super) const $name: &str = $text;)*

        /// Tells the recorder what each metric is.
        pub(super) fn describe() {
            $(describe!($kind, $text, $unit, $help);)*
        }

        /// Rows of the table in `docs/metrics.md`.
        #[cfg(test)]
        fn rows() -> Vec<String> {
            let unit = |unit: metrics::Unit| unit.as_str().replace("count", "");
            vec![$(format!(
                "| `{}` | {} | {} | {} | {} |", $text, stringify!($kind), unit(metrics::Unit::$unit), $labels, $help
            ),)*]
        }
    };
}

macro_rules! describe {
    (counter, $text:literal, $unit:ident, $help:literal) => {
        metrics::describe_counter!($text, metrics::Unit::$unit, $help)
    };
    (gauge, $text:literal, $unit:ident, $help:literal) => {
        metrics::describe_gauge!($text, metrics::Unit::$unit, $help)
    };
    (histogram, $text:literal, $unit:ident, $help:literal) => {
        metrics::describe_histogram!($text, metrics::Unit::$unit, $help)
    };
}

metrics! {
    DECISIONS = counter "tidegate_decisions_total" "`rule` `outcome`" in Count:
        "what rules said: `allowed`, `refused`, or `shadow_refused` where they only watch";
    DECISION_SECONDS = histogram "tidegate_decision_seconds" "" in Seconds:
        "how long decisions in the layer took; of those that nothing had to be waited for, one in 16";
    REJECTED = counter "tidegate_rejected_total" "" in Count:
        "requests that a rule rejected";
    BLOCKED = counter "tidegate_blocked_total" "" in Count:
        "requests of clients on the block list, or banned";
    BANS = counter "tidegate_bans_total" "" in Count:
        "bans";
    CLIENTS_CREATED = counter "tidegate_clients_created_total" "" in Count:
        "clients that came uninvited and were created";
    STORE_ERRORS = counter "tidegate_store_errors_total" "`kind`" in Count:
        "what a store or registry could not decide";
    WITHOUT_STORE = counter "tidegate_without_store_total" "" in Count:
        "requests that were decided without their store";
    STORE_OPEN = gauge "tidegate_store_open" "" in Count:
        "1 while a store is sent nothing but probes, because too many calls have failed";
    STORE_INSTANCES = gauge "tidegate_store_instances" "" in Count:
        "instances that shared a store when it was joined last";
    TRACKED = gauge "tidegate_tracked" "`limiter`" in Count:
        "clients and limits that owe anything, about";
    EVICTED = counter "tidegate_evicted_total" "`limiter`" in Count:
        "entries that owed and had to make room for newcomers";
    IN_FLIGHT = gauge "tidegate_in_flight" "`limiter`" in Count:
        "clients and limits on concurrency with requests running or waiting";
    WAITING = gauge "tidegate_waiting" "`limiter`" in Count:
        "requests that wait for a permit";
    SEND_ATTEMPTS = counter "tidegate_send_attempts_total" "`pacer`" in Count:
        "sends that were asked for";
    SENT = counter "tidegate_sent_total" "`pacer`" in Count:
        "sends that were let through";
    SEND_WAITED = histogram "tidegate_send_waited_seconds" "`pacer`" in Seconds:
        "how long those had waited that did not go at once";
    SEND_REJECTED = counter "tidegate_send_rejected_total" "`pacer` `reason`" in Count:
        "sends that were rejected";
    SEND_WATCHED = counter "tidegate_send_watched_total" "`pacer` `outcome`" in Count:
        "sends of pacers that only watch: what `would_wait`, and what `would_be_rejected`";
    SEND_DIVERTED = counter "tidegate_send_diverted_total" "`pacer`" in Count:
        "rejected sends and batches that a closure took";
    SEND_ERRORS = counter "tidegate_send_errors_total" "`pacer` `error`" in Count:
        "sends that failed, by class of error";
    SEND_REFUSED = counter "tidegate_send_refused_total" "`pacer`" in Count:
        "sends that the other side refused";
    SEND_SECONDS = histogram "tidegate_send_seconds" "`pacer`" in Seconds:
        "how long answers took";
    RETRIES = counter "tidegate_retries_total" "`pacer`" in Count:
        "further tries; those of a `Retry` have no label";
    BACKOFF_SECONDS = histogram "tidegate_backoff_seconds" "`pacer`" in Seconds:
        "how long was waited before these, what an answer asked for included";
    GIVEN_UP = counter "tidegate_given_up_total" "`reason`" in Count:
        "requests that were not tried again";
    BATCH_ITEMS = histogram "tidegate_batch_items" "`pacer`" in Count:
        "items of batches";
    BATCH_BYTES = histogram "tidegate_batch_bytes" "`pacer`" in Bytes:
        "bytes of batches";
    PAUSES = counter "tidegate_pauses_total" "`pacer`" in Count:
        "pauses that the other side asked for";
    SEND_OPEN = gauge "tidegate_send_open" "`pacer`" in Count:
        "1 while the breaker is open";
    FACTOR = gauge "tidegate_factor" "`pacer`" in Count:
        "the share of its quotas' rates that a pacer uses, from 0 to 1";
    SEND_WAITING = gauge "tidegate_send_waiting" "`pacer`" in Count:
        "sends that wait";
    SEND_IN_FLIGHT = gauge "tidegate_send_in_flight_limit" "`pacer`" in Count:
        "how many may be on their way at once";
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_docs_have_a_row_for_each_metric_and_no_other() {
        let docs = include_str!("../../../docs/metrics.md");
        let told: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `tidegate_")).collect();
        assert_eq!(told, super::rows(), "docs/metrics.md should be\n{}", super::rows().join("\n"));
    }
}
