//! Numbers for Prometheus.

use ::metrics::{Unit, describe_counter, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What requests came to.
pub(crate) const REQUESTS: &str = "tidegate_proxy_requests_total";
/// How long requests took.
pub(crate) const REQUEST_SECONDS: &str = "tidegate_proxy_request_seconds";
/// How long upstreams took.
pub(crate) const UPSTREAM_SECONDS: &str = "tidegate_proxy_upstream_seconds";
/// How many lines of the access log were lost.
pub(crate) const LINES_LOST: &str = "tidegate_proxy_access_log_lost_total";

/// From a microsecond, for decisions, to a minute, for slow upstreams.
const SECONDS: [f64; 14] = [1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0];

static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Begins to record what happens, for [`AdminListener`](crate::AdminListener) to tell: in servers that are started from now on,
/// and limiters that are built from now on. Once is enough for a process.
///
/// # Errors
///
/// If the process records it otherwise already.
pub fn record_metrics() -> Result<(), String> {
    handle().map(|_| ())
}

/// Whether anybody records.
pub(crate) fn is_recorded() -> bool {
    RECORDED.get().is_some()
}

pub(crate) fn handle() -> Result<&'static PrometheusHandle, String> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = RECORDED.get() {
        return Ok(handle);
    }
    let builder = PrometheusBuilder::new().set_buckets(&SECONDS).map_err(|error| error.to_string())?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    ::metrics::set_global_recorder(recorder)
        .map_err(|_| "the process has another recorder of metrics".to_owned())?;
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "requests, by the rule that decided, method and class of status"
    );
    describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "from a request's head to its answer's end");
    describe_histogram!(
        UPSTREAM_SECONDS,
        Unit::Seconds,
        "from the decision to the head of the upstream's answer"
    );
    describe_counter!(LINES_LOST, Unit::Count, "lines of the access log that could not be written");
    Ok(RECORDED.get_or_init(|| handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_have_all_of_them() {
        let docs = include_str!("../../docs/proxy.md");
        for name in [REQUESTS, REQUEST_SECONDS, UPSTREAM_SECONDS, LINES_LOST] {
            assert!(docs.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
