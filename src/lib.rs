//! Rate limiting for tower: one policy, enforced wherever requests pass.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod decision;
mod error;
mod identity;
mod key;
mod policy;
mod quota;
mod response;
mod store;

pub use decision::LimitStatus;
pub use error::{BuildError, Mistake, QuotaError};
pub use key::Key;
pub use quota::{Quota, Rate};
pub use store::Reading;
