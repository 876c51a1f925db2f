//! What happens, in numbers, for the recorder of the `metrics` facade. A client is never a label.

mod events;
mod gauges;
mod meters;
mod names;

pub(crate) use events::count;
pub(crate) use gauges::LimiterGauges;
#[cfg(feature = "pace")]
pub(crate) use gauges::PacerGauges;
pub(crate) use meters::Meters;
