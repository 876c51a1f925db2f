//! What clients were granted: their records, tiers and API keys, while requests are counted by them.
//!
//! A [`Registry`] keeps [`ClientRecord`]s, and [`Clients`] are the office in front of it: it knows which ids are
//! accepted and what becomes of unknown ones, and makes changes. Where a client's limits come from, field by field: an
//! override on the request, else a grant that ends by itself, else the client's own, else its tier's, else the tier
//! `default`.

mod answer;
mod api_key;
mod bounds;
mod clients;
mod desk;
mod error;
mod grant;
mod id;
#[cfg(feature = "journal")]
mod journal;
mod memory;
mod office;
mod overrides;
mod patch;
mod record;
mod state;
mod tier;
mod time;
mod unknown;

pub use answer::RegistryAnswer;
#[cfg(feature = "admin")]
pub(crate) use api_key::from_hex;
pub use api_key::{ApiKey, IssuedKey, KeyHash};
pub use clients::Clients;
#[cfg(feature = "admin")]
pub(crate) use desk::LONGEST_PAGE;
pub use error::RegistryError;
pub use grant::Grant;
#[cfg(feature = "admin")]
pub(crate) use grant::{MOST_LIMITS, REQUESTS};
pub use id::IdRule;
#[cfg(feature = "journal")]
pub use journal::JournalError;
pub use memory::MemoryRegistry;
pub(crate) use office::{Follower, Found, How, Missing, Office, Who};
pub use overrides::Overrides;
pub(crate) use overrides::Refused;
pub use patch::ClientPatch;
#[cfg(feature = "admin")]
pub(crate) use patch::whole_number;
pub use record::{ClientRecord, TemporaryGrant};
use std::sync::Arc;
pub use tier::Tiers;
#[cfg(feature = "admin")]
pub(crate) use time::{from_text, to_text};
pub use unknown::UnknownClients;

/// Keeps the records of clients: [in memory](MemoryRegistry), or elsewhere.
///
/// Changes are made by closures from the old record to the new one, so that all rules of what is accepted are in one
/// place and hold for every registry. Each change is made alone, as in a transaction; a registry that finds that another
/// one came between calls the closure again.
pub trait Registry: Send + Sync + 'static {
    /// The record of a client. It is asked on the request path, whenever a client comes that was not there lately.
    ///
    /// As many questions may be on their way as requests; a registry that takes fewer answers the others with an error,
    /// and their requests get a 503.
    fn record(&self, id: &str) -> RegistryAnswer<Option<Arc<ClientRecord>>>;

    /// The record of the client that holds an API key, expired keys included. It is asked as often.
    fn owner(&self, hash: KeyHash) -> RegistryAnswer<Option<Arc<ClientRecord>>>;

    /// Makes a change, and answers with the record before and after it.
    fn change(
        &self,
        id: &str,
        change: ClientChange,
    ) -> RegistryAnswer<BeforeAfter<Option<Arc<ClientRecord>>>>;

    /// At most so many clients, at least 1, by id, beginning after one.
    fn page(&self, after: Option<&str>, most: usize) -> RegistryAnswer<ClientPage>;

    /// How many clients are [uninvited](ClientRecord::is_uninvited). It is asked before one more is created.
    fn uninvited(&self) -> RegistryAnswer<usize>;

    /// The tiers.
    fn tiers(&self) -> RegistryAnswer<Arc<Tiers>>;

    /// Puts other tiers in force, and answers with those before and after.
    fn change_tiers(&self, change: TierChange) -> RegistryAnswer<BeforeAfter<Arc<Tiers>>>;

    /// Calls `watcher` after each change, by whomever it was made and before the change is answered. A change is in force
    /// once that is done.
    fn watch(&self, watcher: Watcher);
}

/// From the old record of a client and the tiers to the new record; `None` is no client.
pub type ClientChange =
    Box<dyn Fn(Option<&ClientRecord>, &Tiers) -> Result<Option<ClientRecord>, RegistryError> + Send + Sync>;

/// What a change found, and what it left.
pub type BeforeAfter<T> = (T, T);

/// From the old tiers to the new ones.
pub type TierChange = Box<dyn Fn(&Tiers) -> Result<Tiers, RegistryError> + Send + Sync>;

/// Is told what has changed. It must be quick, and must not ask the registry.
pub type Watcher = Box<dyn Fn(&Changed<'_>) + Send + Sync>;

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Changed<'a> {
    /// The client with this id.
    Client(&'a str),
    /// The tiers.
    Tiers,
    /// Nobody knows: anything may have.
    Anything,
}

/// Some clients of a registry.
#[derive(Debug, Clone)]
pub struct ClientPage {
    /// The clients, by id.
    pub clients: Vec<Arc<ClientRecord>>,
    /// How many clients there are in all.
    pub count: usize,
    /// The id after which the next page begins, if there is one.
    pub next: Option<String>,
}
