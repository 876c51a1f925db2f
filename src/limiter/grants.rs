//! What registered clients were granted, as requests are counted by it.

#[cfg(all(test, loom))]
mod races;
mod spread;
#[cfg(test)]
mod tests;

use super::{
    Charged, Inner,
    grades::{Grades, Rates},
    readers::Readers,
};
use crate::{
    Grant, Identity, Key, Rate, Rejection, StoreError,
    event::Event,
    identity::Claim,
    key::{Keys, Material},
    policy::{Compiled, CompiledRule},
    registry::{Changed, ClientRecord, Follower, Found, How, KeyHash, Missing, Office, Refused, Who},
    response::Reason,
    store::Asked,
    sync::{AtomicU64, Mutex},
};
use http::HeaderMap;
use papaya::HashMap;
use smallvec::SmallVec;
use spread::Spread;
use std::{
    collections,
    hash::BuildHasherDefault,
    ops::DerefMut,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering::SeqCst},
    task::{Context, Poll, Waker},
    time::SystemTime,
};

/// The clients that came lately, under the keys that they came by.
///
/// A client is looked up in the registry when it first comes, and again after it or the tiers were changed. In between,
/// all that a request needs is found here, without a lock.
pub(crate) struct Grants {
    pub(crate) office: Arc<Office>,
    keys: Keys,
    /// The names of the granted limits, in the order of their numbers.
    names: Vec<String>,
    /// The most units that an override of each of them lets a client owe.
    most_owed: Vec<u32>,
    cache: HashMap<Key, Granted, BuildHasherDefault<Spread>>,
    /// Where most requests find all that they need, written under the lock of `by_client`.
    grades: Grades,
    /// Under which keys a client is there, to find them when it changes.
    by_client: Mutex<ByClient>,
    /// Goes up with each change, so that nothing is kept that was read before it.
    epoch: AtomicU64,
    /// Who waits by what clients were granted.
    pub(super) readers: Readers,
}

type ByClient = collections::HashMap<String, SmallVec<[Key; 1]>>;

/// A client and its quotas.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    /// What the client is counted under, however it came.
    pub(crate) client: Key,
    pub(super) rates: Rates,
    pub(crate) record: Arc<ClientRecord>,
    pub(crate) max_concurrent: u32,
    is_fallback: bool,
    pub(super) may_override: bool,
    /// Whether it changes with its record: neither what unknown clients share nor what a request has brought along.
    pub(super) follows: bool,
    pub(super) until: Option<SystemTime>,
}

/// Who was looked for, and what was found.
pub(crate) type Known = (Key, Outcome);
pub(crate) type Outcome = Result<Granted, Denied>;

/// Why a client may not send requests.
#[derive(Debug, Clone)]
pub(crate) enum Denied {
    Rejected(Rejection),
    /// The registry cannot be asked.
    Down(String),
}

/// A client that is being looked for elsewhere.
pub(crate) struct Lookup {
    key: Key,
    future: Pin<Box<dyn Future<Output = Looked> + Send>>,
}

/// What was found, and whether that is news.
pub(crate) struct Looked {
    pub(crate) outcome: Outcome,
    pub(crate) created: bool,
    /// Whether it is a record that the registry has.
    pub(crate) stored: bool,
}

impl Grants {
    /// `clients` is how many of them may come at the same time.
    pub(super) fn new(office: Arc<Office>, keys: Keys, policy: &Compiled, clients: usize) -> Arc<Self> {
        let granted = policy.limits.iter().filter(|limit| limit.granted.is_some());
        let names: Vec<_> = granted.map(|limit| limit.words.name.clone()).collect();
        let grants = Arc::new(Self {
            keys,
            most_owed: names.iter().map(|name| office.most_units(name)).collect(),
            names,
            cache: HashMap::default(),
            grades: Grades::new(if policy.rules.iter().any(CompiledRule::is_plain) { clients } else { 0 }),
            by_client: Mutex::default(),
            epoch: AtomicU64::new(0),
            office,
            readers: Readers::default(),
        });
        grants.office.tell_of_changes(&grants);
        grants
    }

    /// Does something with what is known of a client, unless it has to be looked up.
    #[inline]
    pub(super) fn with<T>(&self, key: Key, f: impl FnOnce(&Granted) -> T) -> Option<T> {
        let cache = self.cache.pin();
        let granted = cache.get(&key)?;
        if granted.until.is_some_and(|end| self.office.clients.now() >= end) {
            return None;
        }
        Some(f(granted))
    }

    /// The rates of a client under whose key the request came, if they are at hand and all that is to be known of it and
    /// of the request. Rules that ask for more go by [`with`](Self::with).
    #[inline]
    pub(super) fn plain(&self, key: Key, headers: &HeaderMap) -> Option<&Rates> {
        let rates = self.grades.find(key)?;
        self.office.override_of(headers).is_none().then_some(rates)
    }

    /// Looks a client up, at once where the registry is here. `address` is the key of where the request comes from; without
    /// it the client is only asked after.
    pub(super) fn look_up(
        self: &Arc<Self>,
        key: Key,
        who: Who,
        address: Option<Key>,
    ) -> Result<Looked, Lookup> {
        let grants = self.clone();
        let mut future: Pin<Box<dyn Future<Output = Looked> + Send>> =
            Box::pin(async move { grants.find(key, who, address).await });
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(looked) => Ok(looked),
            Poll::Pending => Err(Lookup { key, future }),
        }
    }

    async fn find(&self, key: Key, who: Who, address: Option<Key>) -> Looked {
        let epoch = self.epoch.load(SeqCst);
        match self.office.find(who, address).await {
            Ok(found) => {
                let how = found.how;
                let granted = self.granted(found);
                let stored = matches!(how, How::Known | How::Created);
                if stored && granted.record.is_enabled() {
                    self.keep(key, granted.clone(), epoch);
                }
                Looked { outcome: Ok(granted), created: how == How::Created, stored }
            }
            Err(missing) => {
                let denied = match missing {
                    Missing::Nobody | Missing::Unknown => Denied::Rejected(Rejection::UnknownClient),
                    Missing::MalformedId => Denied::Rejected(Rejection::MalformedClientId),
                    Missing::Registry(error) => Denied::Down(error.to_string()),
                };
                Looked { outcome: Err(denied), created: false, stored: false }
            }
        }
    }

    fn granted(&self, found: Found) -> Granted {
        let Found { record, grant, until, how } = found;
        let client = match how {
            How::Shared => self.keys.key(Material::Unknown, &[]),
            _ => Identity::name(record.client_id()).key(&self.keys),
        };
        let rates = self.rates(&grant);
        let max_concurrent = grant.concurrency().unwrap_or(u32::MAX);
        let is_fallback = self.office.is_fallback(record.client_id());
        let may_override = self.office.may_override(&record);
        let follows = how != How::Shared;
        Granted { client, rates, record, max_concurrent, is_fallback, may_override, follows, until }
    }

    fn rates(&self, grant: &Grant) -> Rates {
        // Grants are checked when they are made, so that each quota has a rate.
        Rates::new(self.names.iter().map(|name| grant.quota(name)?.rate().ok()))
    }

    /// The same client with what an override says.
    pub(super) fn overridden(&self, granted: &Granted, wanted: &Grant) -> Granted {
        let mut granted = granted.clone();
        granted.rates = granted.rates.overridden(&self.rates(wanted));
        granted.max_concurrent = wanted.concurrency().unwrap_or(granted.max_concurrent);
        granted.follows = false;
        granted
    }

    /// Keeps what was found, unless something has changed since `epoch`.
    fn keep(&self, key: Key, granted: Granted, epoch: u64) {
        // All under the lock, or what is out of date could be found for a moment after a change was answered.
        let mut by_client = self.by_client();
        if self.epoch.load(SeqCst) != epoch {
            return;
        }
        let keys = by_client.entry(granted.record.client_id().to_owned()).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
        if granted.is_plain(key) {
            self.grades.put(key, &granted.rates);
        } else {
            self.grades.remove(key);
        }
        self.cache.pin().insert(key, granted);
    }

    /// Which change was the last one.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    fn forget(&self, changed: &Changed<'_>) {
        self.drop_cached(changed);
        self.readers.wake(match changed {
            Changed::Client(id) => Some(Identity::name(*id).key(&self.keys)),
            Changed::Tiers | Changed::Anything => None,
        });
    }

    fn drop_cached(&self, changed: &Changed<'_>) {
        let mut by_client = self.by_client();
        self.epoch.fetch_add(1, SeqCst);
        let cache = self.cache.pin();
        match changed {
            Changed::Client(id) => {
                for key in by_client.remove(*id).into_iter().flatten() {
                    self.grades.remove(key);
                    cache.remove(&key);
                }
            }
            Changed::Tiers | Changed::Anything => {
                by_client.clear();
                self.grades.clear();
                cache.clear();
            }
        }
    }

    fn by_client(&self) -> impl DerefMut<Target = ByClient> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom an identity claims to be, where the registry is to be asked.
    pub(super) fn claimed(&self, identity: &Identity<'_>) -> Option<Who> {
        match identity.claim() {
            Claim::Address => None,
            Claim::Secret(secret) => Some(Who::Secret(KeyHash::of(secret))),
            // What is no UTF-8 is no id either.
            Claim::Name(name) => Some(Who::Id(String::from_utf8_lossy(name).into_owned())),
            Claim::Nobody => self.office.has_fallback().then_some(Who::Nobody),
        }
    }
}

impl Follower for Grants {
    fn changed(&self, changed: &Changed<'_>) {
        self.forget(changed);
    }
}

impl Granted {
    /// The same, unless the client is disabled: what it owes can be told all the same, but it may not send requests.
    pub(super) fn enabled(self) -> Outcome {
        let disabled = Denied::Rejected(Rejection::DisabledClient);
        if self.record.is_enabled() { Ok(self) } else { Err(disabled) }
    }

    /// Whether nobody else is counted with the client.
    pub(super) const fn is_own(&self) -> bool {
        !self.is_fallback
    }

    /// Whether requests that come by this key need no more of it than its rates. An API key is another key than its
    /// client's.
    fn is_plain(&self, key: Key) -> bool {
        self.client == key && self.until.is_none() && !self.is_fallback && !self.may_override
    }
}

impl Inner {
    /// The rate by which a charge's client is counted now; nothing where nobody knows any more.
    pub(super) fn granted_rate(&self, charged: &Charged, limit: usize) -> Option<Rate> {
        let compiled = &self.policy.limits[limit];
        let (_, key) = charged.registered.iter().find(|(rule, _)| *rule == compiled.rule)?;
        let rate = self.grants.as_ref()?.with(*key, |granted| granted.rates.of(compiled.granted))?;
        Some(rate.unwrap_or_else(|| compiled.quota.rate()))
    }

    /// Tells what is to be told of a client that was looked up.
    pub(crate) fn note_looked(&self, looked: &Looked) {
        match &looked.outcome {
            Ok(granted) if looked.created => {
                self.emit(&Event::ClientCreated { client_id: granted.record.client_id() });
            }
            Err(Denied::Down(error)) => self.report_store(&StoreError::of("registry", error.clone()), None),
            _ => {}
        }
    }

    /// The client with the limits that a request brings along in its headers, if it does. That is told if it `is_news`.
    #[inline]
    pub(super) fn overridden(
        &self,
        granted: &Granted,
        headers: &HeaderMap,
        is_news: bool,
    ) -> Result<Option<Granted>, Reason> {
        match self.grants.as_ref().and_then(|grants| grants.office.override_of(headers)) {
            None => Ok(None),
            Some(wanted) => {
                self.override_with(granted, wanted, is_news).map(Some).map_err(|refused| match refused {
                    Refused::Client => Reason::OverrideNotAllowed,
                    Refused::Value(detail) => Reason::BadOverride { detail },
                })
            }
        }
    }

    /// The client with other limits, if it may have them. The attempt is told unless it was before.
    #[cold]
    pub(super) fn override_with(
        &self,
        granted: &Granted,
        wanted: Result<Grant, Refused>,
        is_news: bool,
    ) -> Result<Granted, Refused> {
        let Some(grants) = &self.grants else { return Err(Refused::Client) };
        let asked = wanted.as_ref().ok().cloned();
        let result = grants.office.admit_override(&granted.record, wanted);
        let reason = result.as_ref().err().map(|refused| match refused {
            Refused::Client => "the client may not override its limits",
            Refused::Value(detail) => detail,
        });
        let client_id = granted.record.client_id();
        if is_news {
            self.emit(&Event::Override { client_id, wanted: asked.as_ref(), refused: reason });
        }
        result.map(|wanted| grants.overridden(granted, &wanted))
    }

    /// Lets a client that may override its limits owe as much as its highest override admits. Else an override could be
    /// followed by a lower limit, under which what exceeds it is forgiven, and that by an override again.
    #[cold]
    pub(super) fn keep_owed(&self, asked: &mut [Asked]) {
        let Some(grants) = &self.grants else { return };
        for Asked { limit, charge, .. } in asked {
            let most = self.policy.limits[*limit].granted.and_then(|granted| grants.most_owed.get(granted));
            let beyond = most.map_or(0, |most| most.saturating_sub(charge.rate.burst().get()));
            charge.max_debt = charge.max_debt.max(beyond);
        }
    }

    /// Whom an identity claims to be, where there is a registry to ask.
    pub(super) fn claimed(&self, identity: &Identity<'_>) -> Option<Arc<Who>> {
        self.grants.as_ref()?.claimed(identity).map(Arc::new)
    }

    /// Counts a use of the fallback client.
    #[inline]
    pub(super) fn note_use(&self, granted: &Granted) {
        if !granted.is_fallback {
            return;
        }
        let now = self.engine.now();
        if let Some(uses) = self.grants.as_ref().and_then(|grants| grants.office.note_fallback(now)) {
            self.emit(&Event::Fallback { client_id: granted.record.client_id(), uses });
        }
    }
}

impl Future for Lookup {
    type Output = (Key, Looked);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx).map(|looked| (self.key, looked))
    }
}
