use super::{
    ConfigError, ConfigFormat,
    format::read,
    locate::Source,
    mistake::Found,
    sections::{self, Sections},
};
use crate::{Clients, Limiter, LimiterBuilder, MemoryRegistry, Policy, Tiers};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeMap, fmt, net::SocketAddr, path::Path, sync::Arc};

/// What a file says, without mistakes: a policy and all around it.
///
/// ```
/// use tidegate::Config;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::parse(
///     "tidegate.toml",
///     r#"
///         [[rule]]
///         name = "api"
///         [[rule.limit]]
///         quota = "100/minute burst 20"
///     "#,
/// )?;
/// let limiter = config.limiter()?.build()?;
/// let layer = limiter.layer();
/// # Ok(())
/// # }
/// ```
///
/// `docs/configuration.md` has all sections and keys.
#[derive(Clone)]
pub struct Config {
    pub(super) source: Arc<Source>,
    pub(super) sections: Sections,
    others: BTreeMap<&'static str, Value>,
}

/// So much memory is enough to find mistakes with.
const TRIAL_BYTES: u64 = 1 << 20;

impl Config {
    /// Reads a file that has no sections but the library's own; see [`ConfigFormat`] for others.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or has mistakes; the error names all of them.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        ConfigFormat::new().read(path)
    }

    /// The same of a text, whose mistakes are told under the name of a file.
    ///
    /// # Errors
    ///
    /// If it has mistakes; the error names all of them.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        ConfigFormat::new().parse(file, text)
    }

    pub(super) const fn new(
        source: Arc<Source>,
        sections: Sections,
        others: BTreeMap<&'static str, Value>,
    ) -> Self {
        Self { source, sections, others }
    }

    /// The policy, which is the same as a program would describe it.
    pub fn policy(&self) -> Policy {
        self.sections.policy()
    }

    /// A limiter with the policy, and with the store, registry and settings that the file says; build it, after setting what a
    /// file cannot say, such as observers. With `[store.redis]` it must be built within a tokio runtime. Requests that wait do so by
    /// tokio's timer.
    ///
    /// # Errors
    ///
    /// If the registry's file cannot be opened, or the file asks for what this build has not: Redis without feature `redis`, or
    /// a journal without feature `journal`.
    pub fn limiter(&self) -> Result<LimiterBuilder, ConfigError> {
        let store = &self.sections.store;
        let mut builder = Limiter::builder(self.policy()).timer(tokio::time::sleep);
        if let Some(size) = store.memory {
            builder = builder.memory_bytes(usize::try_from(size.0).unwrap_or(usize::MAX));
        }
        if let Some(secret) = &store.secret {
            builder = builder.secret(*secret.0);
        }
        if let Some(holders) = store.max_in_flight {
            builder = builder.max_in_flight(holders as usize);
        }
        if let Some(waiters) = store.max_waiting {
            builder = builder.max_waiting(waiters as usize);
        }
        if store.plain_addresses {
            builder = builder.plain_addresses();
        }
        builder = self.stored(builder)?;
        Ok(match self.registry()? {
            Some(registry) => builder.clients(self.clients(registry)),
            None => builder,
        })
    }

    /// Where the admin API is to be served, if the file says so.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.sections.admin.as_ref().and_then(|admin| admin.listen)
    }

    /// The admin API of a limiter, if the file has one.
    ///
    /// # Errors
    ///
    /// If the limiter has no registry, because it is not the file's own.
    #[cfg(feature = "admin")]
    pub fn admin(&self, limiter: &Limiter) -> Result<Option<crate::Admin>, crate::BuildError> {
        self.sections.admin.as_ref().map(|admin| admin.build(limiter)).transpose()
    }

    /// The pacer of this name, which counts in a limiter of this file.
    ///
    /// Each call makes one with queues of its own: make it once, and clone it.
    ///
    /// # Errors
    ///
    /// If no pacer has that name, or the limiter is another file's.
    #[cfg(feature = "pace")]
    pub fn pacer(&self, limiter: &Limiter, name: &str) -> Result<crate::Pacer, crate::BuildError> {
        let pacers = &self.sections.pace;
        match pacers.iter().find(|pacer| pacer.name == name) {
            Some(pacer) => pacer.build(limiter),
            None => {
                let known = pacers.iter().map(|pacer| pacer.name.clone()).collect();
                Err(crate::BuildError::one(crate::Mistake::Unknown { name: name.to_owned(), known }))
            }
        }
    }

    /// A section of whoever [declared](ConfigFormat::section) it with this type, if it is in the file.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        read(self.others.get(name)?.clone()).ok()
    }

    /// The name of the file.
    pub fn file(&self) -> &str {
        self.source.file()
    }

    /// The store that the file says.
    #[cfg(feature = "redis")]
    fn stored(&self, builder: LimiterBuilder) -> Result<LimiterBuilder, ConfigError> {
        match &self.sections.store.redis {
            Some(redis) => {
                let store = redis.build().map_err(|error| self.source.build_error(&error))?;
                Ok(builder.store(store))
            }
            None => Ok(builder),
        }
    }

    #[cfg(not(feature = "redis"))]
    fn stored(&self, builder: LimiterBuilder) -> Result<LimiterBuilder, ConfigError> {
        match &self.sections.store.redis {
            Some(_) => Err(self.missing(&["store", "redis"], "redis")),
            None => Ok(builder),
        }
    }

    /// The registry, if the file has one or tiers for it.
    fn registry(&self) -> Result<Option<MemoryRegistry>, ConfigError> {
        let Some(tiers) = self.tiers() else { return Ok(None) };
        match self.sections.registry.as_ref().and_then(|registry| registry.journal.as_deref()) {
            Some(path) => self.journal(path, tiers).map(Some),
            None => Ok(Some(MemoryRegistry::with_tiers(tiers))),
        }
    }

    #[cfg(feature = "journal")]
    fn journal(&self, path: &str, tiers: Tiers) -> Result<MemoryRegistry, ConfigError> {
        MemoryRegistry::open_with_tiers(path, tiers).map_err(|error| {
            let mut found = Found::default();
            found.add(self.source.at(&["registry", "journal"]), error.to_string());
            self.source.error(found)
        })
    }

    #[cfg(not(feature = "journal"))]
    fn journal(&self, _: &str, _: Tiers) -> Result<MemoryRegistry, ConfigError> {
        Err(self.missing(&["registry", "journal"], "journal"))
    }

    /// That a feature is missing.
    #[cfg(not(all(feature = "redis", feature = "journal")))]
    fn missing(&self, keys: &[&str], feature: &str) -> ConfigError {
        let mut found = Found::default();
        let reason = format!("this program was built without it; turn on tidegate's feature `{feature}`");
        found.add(self.source.at(keys), reason);
        self.source.error(found)
    }

    pub(super) fn tiers(&self) -> Option<Tiers> {
        let has_registry = self.sections.registry.is_some() || !self.sections.tier.is_empty();
        has_registry.then(|| sections::tiers(&self.sections.tier).unwrap_or_default())
    }

    fn clients(&self, registry: MemoryRegistry) -> Clients {
        let clients = Clients::new(registry);
        match &self.sections.registry {
            Some(section) => section.dress(clients),
            None => clients,
        }
    }

    /// Finds mistakes of sense, by building all of it on trial: in little memory, and with no store and no file.
    pub(super) fn find_mistakes(&self, found: &mut Found) {
        let Sections { store, tier, answers, pace, .. } = &self.sections;
        let source = &self.source;
        if let Err((name, error)) = sections::tiers(tier) {
            found.add(source.at(&["tier", &name]), error.to_string());
        }
        if let Some(reason) = answers.wrong_content_type() {
            found.add(source.at(&["answers", "body", "content_type"]), reason);
        }
        for (number, pacer) in pace.iter().enumerate() {
            for reason in pacer.wrong_signals() {
                found.add(source.in_list("pace", number, &["feedback", "rule"]), reason);
            }
        }
        if let Some(redis) = &store.redis {
            let has_one_address = redis.url.is_some() != redis.sentinels.is_some();
            if !has_one_address {
                found
                    .add(source.at(&["store", "redis"]), "it needs either url or sentinels; set one of them");
            }
            if store.secret.is_none() {
                let reason = "instances that share a store need one and the same secret; set secret in [store], and make one with `openssl rand -hex 16`";
                found.add(source.at(&["store", "redis"]), reason);
            }
            #[cfg(feature = "redis")]
            if let Some(error) = redis.build().err().filter(|_| has_one_address) {
                source.add(&error, found);
            }
        }
        let memory = store.memory.map_or(TRIAL_BYTES, |size| size.0.min(TRIAL_BYTES));
        let mut builder =
            Limiter::builder(self.policy()).timer(tokio::time::sleep).max_in_flight(1).max_waiting(1);
        builder = builder.memory_bytes(usize::try_from(memory).unwrap_or(usize::MAX));
        if let Some(tiers) = self.tiers() {
            builder = builder.clients(self.clients(MemoryRegistry::with_tiers(tiers)));
        }
        match builder.build() {
            Ok(limiter) => self.find_mistakes_on(&limiter, found),
            Err(error) => source.add(&error, found),
        }
    }

    /// Those of what is built on a limiter.
    #[allow(unused_variables, reason = "what is built depends on features")]
    fn find_mistakes_on(&self, limiter: &Limiter, found: &mut Found) {
        #[cfg(feature = "admin")]
        if let Err(error) = self.admin(limiter) {
            for mistake in error.mistakes() {
                found.add(self.source.at(&["admin"]), super::locate::mended(mistake));
            }
        }
        #[cfg(feature = "pace")]
        for (number, pacer) in self.sections.pace.iter().enumerate() {
            if let Err(error) = pacer.build(limiter) {
                for mistake in error.mistakes() {
                    let is_share = mistake.to_string().starts_with("Pacer::guarantee");
                    let key = if is_share { "guarantee_low" } else { "feedback" };
                    found.add(self.source.in_list("pace", number, &[key]), mistake.to_string());
                }
            }
        }
    }
}

/// Nothing of what it says, because there may be secrets in it.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<_> = self.sections.rule.iter().map(|rule| &rule.name).collect();
        f.debug_struct("Config").field("file", &self.file()).field("rules", &rules).finish_non_exhaustive()
    }
}
