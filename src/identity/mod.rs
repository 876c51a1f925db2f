//! Who is asking.
//!
//! A [`Source`] finds an [`Identity`] in a request's head. What a client sends is believed only where the source says
//! so: forwarding headers count only behind [`TrustedProxies`], and a malformed or repeated credential is rejected
//! rather than passed over.

mod credential;
mod forwarded;
mod head;
mod network;
mod peer;
mod rejection;
mod source;
mod strip;
mod value;

#[cfg(test)]
mod tests;

#[cfg(feature = "admin")]
pub(crate) use credential::query;
pub(crate) use forwarded::Proxies;
pub use forwarded::TrustedProxies;
pub use head::RequestHead;
#[cfg(feature = "config")]
pub(crate) use network::is_network;
pub(crate) use network::{Network, Networks, parse_network};
pub use peer::PeerAddr;
pub(crate) use peer::peer;
pub use rejection::Rejection;
pub use source::Source;
pub(crate) use source::{By, Identify, client_address};
pub use value::Identity;
pub(crate) use value::{Claim, ClientLabel};
