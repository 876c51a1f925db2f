//! Rate limiting for tower: one policy, enforced wherever requests pass.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod error;
mod event;
mod identity;
mod key;
mod layer;
mod limiter;
mod observe;
mod policy;
mod quota;
mod response;
mod status;
mod store;

pub use clock::ManualClock;
pub use error::{BuildError, Mistake, QuotaError};
pub use event::{Event, Observe, Occasion};
pub use identity::{Identity, PeerAddr, Rejection, RequestHead, Source, TrustedProxies};
pub use key::Key;
pub use layer::{ResponseFuture, Throttle, ThrottleBody, ThrottleLayer};
pub use limiter::{ChargeError, ChargeFuture, Charging, Client, Decision, Limiter, LimiterBuilder};
pub use policy::{Cost, Limit, Policy, Rule, Settle};
pub use quota::{Quota, Rate};
pub use response::{HeaderStyle, Reason, Refusal};
pub use status::LimitStatus;
pub use store::{Charge, Op, Place, Reading, Store, StoreError, StoreFuture};
