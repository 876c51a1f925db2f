use std::{collections::BTreeMap, time::Duration};

/// What is known of the other side, by name: a broker's latency, a queue's backlog, a consumer's lag.
///
/// A signal that has not been set lately goes over to its default: it is as it was set for as long as it keeps fresh, and then moves
/// evenly to the default in the same time.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    entries: BTreeMap<String, Entry>,
    pub(super) now: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    default: f64,
    fresh: u64,
    /// What it was set to, and when.
    set: Option<(f64, u64)>,
}

impl Signals {
    /// The value of a signal as of now; nothing where none has that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.entries.get(name).map(|entry| entry.value(self.now))
    }

    pub(super) fn declare(&mut self, name: String, default: f64, fresh: Duration) {
        let fresh = u64::try_from(fresh.as_nanos()).unwrap_or(u64::MAX);
        self.entries.insert(name, Entry { default, fresh, set: None });
    }

    /// Sets a signal, if it is one and the value is a number.
    pub(super) fn set(&mut self, name: &str, value: f64, now: u64) -> bool {
        let entry = self.entries.get_mut(name);
        entry.map(|entry| entry.set = value.is_finite().then_some((value, now))).is_some()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }
}

impl Entry {
    fn value(&self, now: u64) -> f64 {
        let Some((value, at)) = self.set else { return self.default };
        let stale = now.saturating_sub(at).saturating_sub(self.fresh);
        match stale {
            0 => value,
            _ if stale >= self.fresh => self.default,
            _ => value + (self.default - value) * (stale as f64 / self.fresh as f64),
        }
    }
}
