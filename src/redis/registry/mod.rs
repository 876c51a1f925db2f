//! Clients, tiers and API keys in Redis, so that all instances go by the same.

mod archive;
mod keys;

use super::{servers::Servers, timing::Timing};
use crate::{
    BeforeAfter, Changed, ClientChange, ClientPage, ClientRecord, KeyHash, Registry, RegistryAnswer,
    RegistryError, TierChange, Tiers, Watcher,
};
use archive::Archive;
use redis::{Cmd, Value};
use serde::de::DeserializeOwned;
use std::{fmt, sync::Arc};
use tokio::{runtime::Handle, task::AbortHandle};

/// A registry in Redis (6 or newer) or Valkey (7 or newer), which many instances share. Clones share everything.
///
/// A change that one instance makes is told to all others, and so in force there within milliseconds; where that is lost, within
/// a second. While Redis cannot be asked, clients that came lately go on by what is known of them, and all others get a 503.
///
/// ```no_run
/// use tidegate::{Clients, RedisStore, Tiers};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let registry = RedisStore::builder("redis://127.0.0.1:6379").registry(Tiers::new())?;
/// let clients = Clients::new(registry);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    archive: Arc<Archive>,
    /// The task that keeps the connection.
    keeper: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// So often others may come between before a change is given up.
const TRIES: usize = 100;

impl RedisRegistry {
    pub(super) fn new(servers: Servers, prefix: &str, timing: Timing, first: Tiers, runtime: Handle) -> Self {
        let archive = Arc::new(Archive::new(servers, prefix, timing, first, runtime.clone()));
        let keeper = runtime.spawn(archive::keep(archive.clone())).abort_handle();
        Self { shared: Arc::new(Shared { archive, keeper }) }
    }

    /// Waits until Redis was reached. Requests need not: until then clients cannot be looked up, which is a 503.
    pub async fn ready(&self) {
        self.shared.archive.ready().await;
    }

    /// An answer that is to be waited for.
    fn later<T, F: Future<Output = Result<T, RegistryError>> + Send + 'static>(
        &self,
        ask: impl FnOnce(Arc<Archive>) -> F,
    ) -> RegistryAnswer<T> {
        RegistryAnswer::later(ask(self.shared.archive.clone()))
    }
}

impl Registry for RedisRegistry {
    fn record(&self, id: &str) -> RegistryAnswer<Option<Arc<ClientRecord>>> {
        let id = id.to_owned();
        self.later(async move |archive| {
            let mut get = Cmd::new();
            get.arg("HGET").arg(&archive.keys.records).arg(&id);
            let raw = text(archive.ask(get).await?)?;
            raw.map(|raw| parse(&raw, "record of a client").map(Arc::new)).transpose()
        })
    }

    fn owner(&self, hash: KeyHash) -> RegistryAnswer<Option<Arc<ClientRecord>>> {
        self.later(async move |archive| {
            let mut find = eval(include_str!("owner.lua"), &[&archive.keys.owners, &archive.keys.records]);
            find.arg(hash.to_string());
            let raw = text(archive.ask(find).await?)?;
            raw.map(|raw| parse(&raw, "record of a client").map(Arc::new)).transpose()
        })
    }

    fn change(
        &self,
        id: &str,
        change: ClientChange,
    ) -> RegistryAnswer<BeforeAfter<Option<Arc<ClientRecord>>>> {
        let id = id.to_owned();
        self.later(async move |archive| {
            for _ in 0..TRIES {
                let (record, tiers) = archive.find(&id).await?;
                let old: Option<ClientRecord> =
                    record.as_deref().map(|raw| parse(raw, "record of a client")).transpose()?;
                let new = change(old.as_ref(), &*archive.tiers_of(tiers.as_deref())?)?;
                let is_done =
                    new == old || archive.put(&id, record, tiers, old.as_ref(), new.as_ref()).await?;
                if is_done {
                    return Ok((old.map(Arc::new), new.map(Arc::new)));
                }
            }
            Err(RegistryError::unavailable("others changed the same client all the time"))
        })
    }

    fn page(&self, after: Option<&str>, most: usize) -> RegistryAnswer<ClientPage> {
        let start = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        self.later(async move |archive| {
            let mut page = eval(include_str!("page.lua"), &[&archive.keys.records, &archive.keys.ids]);
            page.arg(start).arg(most + 1);
            let Value::Array(found) = archive.ask(page).await? else { return Err(odd("a page")) };
            let mut found = found.into_iter();
            let count = found.next().map_or(Ok(0), number)?;
            let record = |raw| parse(&text(raw)?.unwrap_or_default(), "record of a client").map(Arc::new);
            let mut clients = found.map(record).collect::<Result<Vec<Arc<ClientRecord>>, _>>()?;
            let has_more = clients.len() > most;
            clients.truncate(most);
            let next = clients.last().filter(|_| has_more).map(|last| last.client_id().to_owned());
            Ok(ClientPage { clients, count, next })
        })
    }

    fn uninvited(&self) -> RegistryAnswer<usize> {
        self.later(async move |archive| {
            let mut get = Cmd::new();
            get.arg("GET").arg(&archive.keys.uninvited);
            number(archive.ask(get).await?)
        })
    }

    fn tiers(&self) -> RegistryAnswer<Arc<Tiers>> {
        match self.shared.archive.known_tiers() {
            Ok(tiers) => RegistryAnswer::now(Ok(tiers)),
            Err(changes) => self.later(async move |archive| {
                let tiers = archive.tiers_of(archive.raw_tiers().await?.as_deref())?;
                archive.keep_tiers(&tiers, changes);
                Ok(tiers)
            }),
        }
    }

    fn change_tiers(&self, change: TierChange) -> RegistryAnswer<BeforeAfter<Arc<Tiers>>> {
        self.later(async move |archive| {
            for _ in 0..TRIES {
                let raw = archive.raw_tiers().await?;
                let old = archive.tiers_of(raw.as_deref())?;
                let new = Arc::new(change(&old)?);
                if new == old || archive.put_tiers(raw, &new).await? {
                    return Ok((old, new));
                }
            }
            Err(RegistryError::unavailable("others changed the tiers all the time"))
        })
    }

    fn watch(&self, watcher: Watcher) {
        self.shared.archive.watch(watcher);
    }
}

/// What is stored, as it is.
type Raw = Option<Vec<u8>>;

impl Archive {
    /// A record and the tiers, as of one time.
    async fn find(&self, id: &str) -> Result<(Raw, Raw), RegistryError> {
        let script = "return { redis.call('HGET', KEYS[1], ARGV[1]), redis.call('GET', KEYS[2]) }";
        let mut find = eval(script, &[&self.keys.records, &self.keys.tiers]);
        find.arg(id);
        let Value::Array(found) = self.ask(find).await? else { return Err(odd("a record")) };
        let [record, tiers] = <[Value; 2]>::try_from(found).map_err(|_| odd("a record"))?;
        Ok((text(record)?, text(tiers)?))
    }

    async fn raw_tiers(&self) -> Result<Raw, RegistryError> {
        let mut get = Cmd::new();
        get.arg("GET").arg(&self.keys.tiers);
        text(self.ask(get).await?)
    }

    fn tiers_of(&self, raw: Option<&[u8]>) -> Result<Arc<Tiers>, RegistryError> {
        raw.map_or_else(|| Ok(self.first.clone()), |raw| parse(raw, "list of tiers").map(Arc::new))
    }

    /// Puts a record in place, and answers whether nobody came between.
    async fn put(
        &self,
        id: &str,
        found: Raw,
        tiers: Raw,
        old: Option<&ClientRecord>,
        new: Option<&ClientRecord>,
    ) -> Result<bool, RegistryError> {
        let keys = &self.keys;
        let names = [&keys.records, &keys.ids, &keys.owners, &keys.tiers, &keys.uninvited, &keys.version];
        let hashes = |record: Option<&ClientRecord>| -> Vec<String> {
            record.into_iter().flat_map(ClientRecord::key_hashes).map(|hash| hash.to_string()).collect()
        };
        let uninvited =
            |record: Option<&ClientRecord>| i64::from(record.is_some_and(ClientRecord::is_uninvited));
        let mut put = eval(include_str!("put.lua"), &names);
        put.arg(id).arg(found.unwrap_or_default()).arg(tiers.unwrap_or_default());
        put.arg(new.map(write).transpose()?.unwrap_or_default());
        put.arg(uninvited(new) - uninvited(old)).arg(&keys.channel);
        put.arg(hashes(old).len()).arg(hashes(old)).arg(hashes(new));
        let done = number(self.ask(put).await?)? > 0;
        if done {
            // Before it is answered, and not only when it is told to all.
            self.tell(&Changed::Client(id));
        }
        Ok(done)
    }

    async fn put_tiers(&self, found: Raw, new: &Tiers) -> Result<bool, RegistryError> {
        let mut put = eval(include_str!("tiers.lua"), &[&self.keys.tiers, &self.keys.version]);
        put.arg(found.unwrap_or_default()).arg(write(new)?).arg(&self.keys.channel);
        let done = number(self.ask(put).await?)? > 0;
        if done {
            self.tell(&Changed::Tiers);
        }
        Ok(done)
    }
}

fn eval(script: &str, keys: &[&String]) -> Cmd {
    let mut command = Cmd::new();
    command.arg("EVAL").arg(script).arg(keys.len()).arg(keys);
    command
}

fn text(value: Value) -> Result<Raw, RegistryError> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(text) => Ok(Some(text)),
        _ => Err(odd("a text")),
    }
}

fn number(value: Value) -> Result<usize, RegistryError> {
    match value {
        Value::Nil => Ok(0),
        // A server that has forgotten some keys and not others may have counted below nothing.
        Value::Int(number) => Ok(usize::try_from(number).unwrap_or(0)),
        Value::BulkString(text) => {
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<i64>().ok());
            number.map(|number| usize::try_from(number).unwrap_or(0)).ok_or_else(|| odd("a number"))
        }
        _ => Err(odd("a number")),
    }
}

fn parse<T: DeserializeOwned>(raw: &[u8], what: &str) -> Result<T, RegistryError> {
    serde_json::from_slice(raw).map_err(|error| {
        RegistryError::unavailable(format!("what stands in Redis is no {what} that tidegate wrote ({error})"))
    })
}

fn write(value: &impl serde::Serialize) -> Result<Vec<u8>, RegistryError> {
    serde_json::to_vec(value).map_err(RegistryError::unavailable)
}

fn odd(what: &str) -> RegistryError {
    RegistryError::unavailable(format!("Redis answered with something else than {what}"))
}

impl fmt::Debug for RedisRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRegistry").field("keys", &self.shared.archive.keys).finish_non_exhaustive()
    }
}
