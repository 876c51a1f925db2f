//! What is measured when somebody asks for it.

use super::names;
use metrics::{counter, gauge};

/// How a limiter stands.
pub(crate) struct LimiterGauges {
    pub(crate) tracked: usize,
    pub(crate) evicted: u64,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
}

/// How a pacer stands.
pub(crate) struct PacerGauges {
    pub(crate) factor: f64,
    pub(crate) waiting: usize,
    pub(crate) in_flight: Option<u32>,
}

impl LimiterGauges {
    pub(crate) fn set(&self, limiter: &str) {
        let set = |name: &'static str, value: usize| {
            gauge!(name, "limiter" => limiter.to_owned()).set(value as f64);
        };
        set(names::TRACKED, self.tracked);
        set(names::IN_FLIGHT, self.in_flight);
        set(names::WAITING, self.waiting);
        counter!(names::EVICTED, "limiter" => limiter.to_owned()).absolute(self.evicted);
    }
}

impl PacerGauges {
    pub(crate) fn set(&self, pacer: &str) {
        let set = |name: &'static str, value: f64| gauge!(name, "pacer" => pacer.to_owned()).set(value);
        set(names::FACTOR, self.factor);
        set(names::SEND_WAITING, self.waiting as f64);
        if let Some(limit) = self.in_flight {
            set(names::SEND_IN_FLIGHT, limit.into());
        }
    }
}
