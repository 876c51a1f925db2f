use crate::Priority;
use std::time::Duration;

/// When a batch goes, and what it costs.
#[derive(Debug, Clone)]
#[must_use]
pub struct BatchPlan {
    pub(super) items: usize,
    pub(super) bytes: u64,
    pub(super) interval: Duration,
    pub(super) pending: usize,
    pub(super) priority: Priority,
    items_limit: Option<String>,
    bytes_limit: Option<(String, u32)>,
}

impl BatchPlan {
    /// A batch goes when it has so many items, at least 1, or its first item has waited so long.
    ///
    /// Ten times as many items of a key may be pushed and not sent yet, unless [`max_pending`](Self::max_pending) is set.
    pub fn new(items: usize, interval: Duration) -> Self {
        let items = items.max(1);
        Self {
            items,
            bytes: u64::MAX,
            interval,
            pending: items.saturating_mul(10),
            priority: Priority::Normal,
            items_limit: None,
            bytes_limit: None,
        }
    }

    /// It goes before it would have more bytes than this, too; an item that has more goes alone.
    pub fn max_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// How many items of a key may be pushed and not sent yet, those that are being sent among them; at least as many as a
    /// batch has.
    pub fn max_pending(self, items: usize) -> Self {
        Self { pending: items.max(self.items), ..self }
    }

    /// How urgent batches are.
    pub fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// The pacer's limit that is charged a unit for each item. Others are charged what they say of every request.
    pub fn items_limit(self, limit: impl Into<String>) -> Self {
        Self { items_limit: Some(limit.into()), ..self }
    }

    /// The pacer's limit that is charged for bytes, in grains of so many: 1,024 for kibibytes.
    pub fn bytes_limit(self, limit: impl Into<String>, grain: u32) -> Self {
        Self { bytes_limit: Some((limit.into(), grain.max(1))), ..self }
    }

    /// The units of limits that have names.
    pub(super) fn costs(&self, items: usize, bytes: u64) -> Vec<(&str, u32)> {
        let units = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let items_cost = self.items_limit.as_ref().map(|limit| (limit.as_str(), units(items as u64)));
        let bytes_limit = self.bytes_limit.as_ref();
        let bytes_cost =
            bytes_limit.map(|(limit, grain)| (limit.as_str(), units(bytes.div_ceil(u64::from(*grain)))));
        items_cost.into_iter().chain(bytes_cost).collect()
    }
}
