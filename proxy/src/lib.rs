//! A reverse proxy that holds clients to the limits of [`tidegate`] in front of anything.
//!
//! It is the program `tidegate`; as a library it is there for tests and for programs that bring a limiter of their own:
//! see [`Server`].
//!
//! # The way of a request
//!
//! A worker thread accepts the connection; it never leaves that thread (`worker`, `connection`). hyper reads the
//! head, [`tidegate`]'s layer decides before the body is asked for, and the forwarder (`forward`) checks and rewrites the
//! head (`check`, `fields`), takes a connection from the worker's pool (`upstream`) and drives it itself until
//! the answer's last byte.

mod access;
mod account;
mod admin;
mod answer;
mod check;
mod connection;
mod fields;
mod forward;
mod listen;
mod metrics;
mod patience;
mod problem;
mod proxy_protocol;
mod pulse;
mod routes;
mod server;
pub mod settings;
mod stop;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
mod tls;
mod tunnel;
mod upload;
mod upstream;
mod worker;

pub use admin::{AdminListener, AdminSettings};
pub use metrics::record_metrics;
pub use server::{Server, StartError};
pub use settings::Settings;
