//! A file that is read again while the limiter runs.

use super::{Config, ConfigError, mistake::Found};
use crate::{Limiter, RegistryError, Tiers};
use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

impl Config {
    /// Puts in force what this file says on a limiter that was made of a former one: rules and limits, lists, bans, how clients
    /// are found, how they are told, and tiers, all from the next request on.
    ///
    /// What clients owe stays: see [`Limiter::set_policy`]. What admins changed while it ran stays too, unless the files differ
    /// in it. What takes a restart must be as it was: the store, the registry, the admin API and the settings of pacers. Pacers and layers that
    /// were made go on by the new limits; a pacer that is gone goes on by its last ones.
    ///
    /// ```
    /// use tidegate::{Config, ConfigError, Limiter};
    ///
    /// /// What to do when the file has changed; an error leaves all as it was.
    /// fn reload(limiter: &Limiter, config: &mut Config) -> Result<(), ConfigError> {
    ///     let new = Config::read(config.file())?;
    ///     new.reload(limiter, config)?;
    ///     *config = new;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If it changes what takes a restart, or the new policy needs more memory than there is; the error names all of it, and nothing
    /// is changed then.
    pub fn reload(&self, limiter: &Limiter, former: &Self) -> Result<(), ConfigError> {
        let mut found = Found::default();
        self.find_lasting(former, &mut found);
        if !found.is_empty() {
            return Err(self.source.error(found));
        }
        let (old, new) = (former.tiers().unwrap_or_default(), self.tiers().unwrap_or_default());
        self.change_tiers(limiter, &old, &new)?;
        limiter.set_policy(self.policy()).map_err(|error| {
            // What cannot be taken back either is for the registry's own log.
            let _ = self.change_tiers(limiter, &new, &old);
            let mut found = Found::default();
            self.source.add(&error, &mut found);
            self.source.error(found)
        })
    }

    /// Finds what is not as it was and takes a restart.
    fn find_lasting(&self, former: &Self, found: &mut Found) {
        let (new, old) = (&self.sections, &former.sections);
        let has_registry = |config: &Self| config.tiers().is_some();
        for (is_same, key) in [
            (new.store == old.store, "store"),
            (new.registry == old.registry && has_registry(self) == has_registry(former), "registry"),
            (new.admin == old.admin, "admin"),
        ] {
            if !is_same {
                let reason =
                    format!("[{key}] has changed, which takes a restart; put it back as it was, or restart");
                found.add(self.source.at(&[key]), reason);
            }
        }
        for (number, pacer) in new.pace.iter().enumerate() {
            if !old.pace.iter().all(|other| pacer.goes_on_as(other)) {
                let reason = "settings of this pacer have changed, and only its limits can without a restart; put them back as they were, or restart";
                found.add(self.source.in_list("pace", number, &["name"]), reason);
            }
        }
    }

    /// Puts tiers in force that two files differ in.
    fn change_tiers(&self, limiter: &Limiter, old: &Tiers, new: &Tiers) -> Result<(), ConfigError> {
        let Some(clients) = limiter.clients().filter(|_| old != new) else { return Ok(()) };
        let (old, new) = (old.clone(), new.clone());
        let changing = clients.registry.change_tiers(Box::new(move |tiers| merged(tiers, &old, &new)));
        // The embedded registry makes the change at once, and only keeps it later.
        match pin!(changing).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => {
                let mut found = Found::default();
                found.add(self.source.at(&["tier"]), error.to_string());
                Err(self.source.error(found))
            }
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }
}

/// The tiers in force with what is new instead of what is old. What others made of them stays.
fn merged(tiers: &Tiers, old: &Tiers, new: &Tiers) -> Result<Tiers, RegistryError> {
    let mut merged = tiers.clone();
    for (name, grant) in new.iter().filter(|(name, grant)| old.get(name) != Some(grant)) {
        merged = merged.with(name, grant.clone())?;
    }
    for (name, _) in old.iter().filter(|(name, _)| new.get(name).is_none() && tiers.get(name).is_some()) {
        merged = merged.without(name)?;
    }
    Ok(merged)
}
