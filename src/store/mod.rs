//! Where requests are counted. A store knows keys and rates, never HTTP.

mod reading;

pub use reading::Reading;
