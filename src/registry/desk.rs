//! Changes to clients, whatever the registry.

use super::{
    ClientChange, ClientPage, ClientPatch, ClientRecord, Clients, Grant, IssuedKey, KeyHash, RegistryError,
    TemporaryGrant, Tiers, time,
};
use std::{sync::Arc, time::Duration};

/// The most clients on one page.
pub(crate) const LONGEST_PAGE: usize = 1_000;
/// The most API keys of one client.
const MOST_KEYS: usize = 100;

/// What a client was, if it was, and what it is now.
pub(crate) type Replaced = (Option<Arc<ClientRecord>>, Arc<ClientRecord>);

/// What a client was and is now.
pub(crate) type Edited = (Arc<ClientRecord>, Arc<ClientRecord>);

impl Clients {
    /// The record of a client.
    ///
    /// # Errors
    ///
    /// If the registry cannot be reached.
    pub async fn get(&self, id: &str) -> Result<Option<Arc<ClientRecord>>, RegistryError> {
        self.registry.record(id).await
    }

    /// At most `most` clients (1 to 1000) by id, beginning after one.
    ///
    /// # Errors
    ///
    /// If the registry cannot be reached.
    pub async fn page(&self, after: Option<&str>, most: usize) -> Result<ClientPage, RegistryError> {
        self.registry.page(after, most.clamp(1, LONGEST_PAGE)).await
    }

    /// Changes a client, or creates it: then what the patch leaves out is as in [`ClientRecord::new`].
    ///
    /// # Errors
    ///
    /// If the id or a field is not accepted, or the registry cannot be reached.
    pub async fn set(&self, id: &str, patch: ClientPatch) -> Result<Arc<ClientRecord>, RegistryError> {
        Ok(self.replace(id, patch).await?.1)
    }

    pub(crate) async fn replace(&self, id: &str, patch: ClientPatch) -> Result<Replaced, RegistryError> {
        self.check_id(id)?;
        let (now, name) = (self.now(), id.to_owned());
        let change = move |old: Option<&ClientRecord>, tiers: &Tiers| {
            let record = old.cloned().unwrap_or_else(|| ClientRecord::new(name.clone(), now));
            patch.clone().apply(record, tiers, now).map(Some)
        };
        let (old, new) = self.registry.change(id, Box::new(change)).await?;
        Ok((old, new.ok_or_else(|| RegistryError::no_client(id))?))
    }

    /// Whether a text may be an id.
    pub(crate) fn check_id(&self, id: &str) -> Result<(), RegistryError> {
        if self.ids.accepts(id) {
            return Ok(());
        }
        Err(RegistryError::invalid("client_id", format!("{} are accepted", self.ids)))
    }

    /// Deletes a client with its API keys, and answers whether it was there. What it owes is not forgiven: whoever comes
    /// with its id owes it.
    ///
    /// # Errors
    ///
    /// If the registry cannot be reached.
    pub async fn delete(&self, id: &str) -> Result<bool, RegistryError> {
        Ok(self.remove(id).await?.is_some())
    }

    pub(crate) async fn remove(&self, id: &str) -> Result<Option<Arc<ClientRecord>>, RegistryError> {
        let change: ClientChange = Box::new(|_, _| Ok(None));
        Ok(self.registry.change(id, change).await?.0)
    }

    /// Grants a client more, or less, for a time. It takes the place of a former such grant.
    ///
    /// # Errors
    ///
    /// If there is no such client, the grant is empty or not accepted, or the registry cannot be reached.
    pub async fn grant(
        &self,
        id: &str,
        grant: Grant,
        duration: Duration,
    ) -> Result<Arc<ClientRecord>, RegistryError> {
        Ok(self.begin_grant(id, grant, duration).await?.1)
    }

    pub(crate) async fn begin_grant(
        &self,
        id: &str,
        grant: Grant,
        duration: Duration,
    ) -> Result<Edited, RegistryError> {
        grant.check("rate_limit")?;
        if grant.is_empty() {
            return Err(RegistryError::invalid("rate_limit", "it grants nothing; say what is granted"));
        }
        let temporary = TemporaryGrant { rate_limit: grant, expires_at: time::after(self.now(), duration) };
        let change = move |record: &mut ClientRecord| {
            record.temporary = Some(temporary.clone());
            Ok(())
        };
        self.edit(id, change).await
    }

    /// Ends a grant before its time.
    ///
    /// # Errors
    ///
    /// If there is no such client, or the registry cannot be reached.
    pub async fn end_grant(&self, id: &str) -> Result<Arc<ClientRecord>, RegistryError> {
        Ok(self.stop_grant(id).await?.1)
    }

    pub(crate) async fn stop_grant(&self, id: &str) -> Result<Edited, RegistryError> {
        let change = |record: &mut ClientRecord| {
            record.temporary = None;
            Ok(())
        };
        self.edit(id, change).await
    }

    /// Issues an API key for a client, up to 100.
    ///
    /// # Errors
    ///
    /// If there is no such client or it has too many keys, or the registry cannot be reached.
    pub async fn issue_key(&self, id: &str) -> Result<IssuedKey, RegistryError> {
        self.add_key(id, None).await
    }

    /// Issues an API key in place of another one, which is accepted for `overlap` more.
    ///
    /// # Errors
    ///
    /// If there is no such client or key, or the registry cannot be reached.
    pub async fn rotate_key(
        &self,
        id: &str,
        prefix: &str,
        overlap: Duration,
    ) -> Result<IssuedKey, RegistryError> {
        self.add_key(id, Some((prefix.to_owned(), overlap))).await
    }

    async fn add_key(&self, id: &str, old: Option<(String, Duration)>) -> Result<IssuedKey, RegistryError> {
        let now = self.now();
        let issued = IssuedKey::new(now)?;
        let key = issued.stored();
        let change = move |record: &mut ClientRecord| {
            record.api_keys.retain(|key| key.is_live(now));
            if let Some((prefix, overlap)) = &old {
                let old = record.api_keys.iter_mut().find(|key| key.prefix == *prefix);
                let Some(old) = old else { return Err(no_key(prefix)) };
                let end = time::after(now, *overlap);
                old.expires_at = Some(old.expires_at.map_or(end, |earlier| earlier.min(end)));
            }
            if record.api_keys.len() >= MOST_KEYS {
                let message = format!("a client has at most {MOST_KEYS} of them; revoke one");
                return Err(RegistryError::invalid("api_keys", message));
            }
            record.api_keys.push(key.clone());
            Ok(())
        };
        self.edit(id, change).await?;
        Ok(issued)
    }

    /// Ends an API key at once.
    ///
    /// # Errors
    ///
    /// If there is no such client or key, or the registry cannot be reached.
    pub async fn revoke_key(&self, id: &str, prefix: &str) -> Result<(), RegistryError> {
        let (now, prefix) = (self.now(), prefix.to_owned());
        let change = move |record: &mut ClientRecord| {
            record.api_keys.retain(|key| key.is_live(now));
            let before = record.api_keys.len();
            record.api_keys.retain(|key| key.prefix != prefix);
            if record.api_keys.len() < before { Ok(()) } else { Err(no_key(&prefix)) }
        };
        self.edit(id, change).await.map(drop)
    }

    /// The client that holds an API key which is still accepted.
    ///
    /// # Errors
    ///
    /// If the registry cannot be reached.
    pub async fn owner(&self, secret: &str) -> Result<Option<Arc<ClientRecord>>, RegistryError> {
        let (hash, now) = (KeyHash::of(secret.as_bytes()), self.now());
        let owner = self.registry.owner(hash).await?;
        Ok(owner.filter(|record| record.api_keys.iter().any(|key| key.hash == hash && key.is_live(now))))
    }

    /// The tiers.
    ///
    /// # Errors
    ///
    /// If the registry cannot be reached.
    pub async fn tiers(&self) -> Result<Arc<Tiers>, RegistryError> {
        self.registry.tiers().await
    }

    /// Sets what a tier grants, from the next request on, and answers with what it granted until now.
    ///
    /// # Errors
    ///
    /// If the name or the grant is not accepted (see [`Tiers::with`]), or the registry cannot be reached.
    pub async fn set_tier(&self, name: &str, grant: Grant) -> Result<Option<Grant>, RegistryError> {
        let tier = name.to_owned();
        let change = move |tiers: &Tiers| tiers.clone().with(tier.clone(), grant.clone());
        let (old, _) = self.registry.change_tiers(Box::new(change)).await?;
        Ok(old.get(name).cloned())
    }

    /// Removes a tier, and answers with what it granted. Clients that are in it fall back to `default`, as far as they
    /// have no limits of their own.
    ///
    /// # Errors
    ///
    /// If there is no such tier, it is `default`, or the registry cannot be reached.
    pub async fn remove_tier(&self, name: &str) -> Result<Grant, RegistryError> {
        let tier = name.to_owned();
        let (old, _) =
            self.registry.change_tiers(Box::new(move |tiers| tiers.clone().without(&tier))).await?;
        Ok(old.get(name).cloned().unwrap_or_default())
    }

    /// Changes a client that is there.
    async fn edit(
        &self,
        id: &str,
        edit: impl Fn(&mut ClientRecord) -> Result<(), RegistryError> + Send + Sync + 'static,
    ) -> Result<Edited, RegistryError> {
        let (now, name) = (self.now(), id.to_owned());
        let change = move |old: Option<&ClientRecord>, _: &Tiers| {
            let mut record = old.cloned().ok_or_else(|| RegistryError::no_client(&name))?;
            edit(&mut record)?;
            (record.updated_at, record.uninvited) = (now, false);
            Ok(Some(record))
        };
        let (old, new) = self.registry.change(id, Box::new(change)).await?;
        old.zip(new).ok_or_else(|| RegistryError::no_client(id))
    }
}

fn no_key(prefix: &str) -> RegistryError {
    RegistryError::NotFound { what: format!("API key {prefix:?} of this client") }
}
