//! Who is asked for among the bans, and whose refusals are noted.

use super::{
    Charged, Inner,
    grants::{Known, Lookup},
};
use crate::{
    Identity, Key, KeyHash, Rejection, RequestHead,
    ban::{Bans, Released, Sentence, Suspect},
    event::{Event, Occasion},
    identity::{Claim, ClientLabel, client_address},
    policy::{CompiledRule, List, Scope, Shares},
    registry::Who,
};
use std::time::Duration;

/// A ban that is in force, and for how long yet.
pub(super) type InForce = (ClientLabel, Duration);

impl Inner {
    /// Whether anybody is banned.
    pub(super) fn bans(&self) -> bool {
        self.bans.as_ref().is_some_and(Bans::any)
    }

    /// Whether a source that rejects a request may be kept from somebody who is blocked or banned.
    pub(super) fn may_hide_somebody(&self, rejection: Rejection, blocked: &List) -> bool {
        // Nobody can make its chain of proxies shorter, and whoever checks a server's health may come without one.
        let is_credential = rejection != Rejection::ShortChain;
        rejection.is_malformed() && (blocked.has_identities() || is_credential && self.bans())
    }

    /// The ban of whoever sends a request, by its address, by whatever source of the policy knows it, and by the client of
    /// the registry that it is. That may have to be looked up elsewhere first, if it is not among the `known`.
    pub(super) fn banned(&self, head: &RequestHead<'_>, known: &[Known]) -> Result<Option<InForce>, Lookup> {
        match self.bans.as_ref().filter(|bans| bans.any()) {
            Some(bans) => self.find_ban(bans, head, known),
            None => Ok(None),
        }
    }

    #[inline(never)]
    fn find_ban(
        &self,
        bans: &Bans,
        head: &RequestHead<'_>,
        known: &[Known],
    ) -> Result<Option<InForce>, Lookup> {
        let proxies = self.policy.proxies.as_ref();
        if let Some(address) = client_address(head, proxies).ok().flatten() {
            if let Some(ban) = self.banned_key(bans, Identity::address(address).key(&self.keys)) {
                return Ok(Some(ban));
            }
        }
        for source in &self.policy.sources {
            let Ok(identity) = source.identify(*head, proxies) else { continue };
            let key = identity.key(&self.keys);
            let mut ban = (!identity.is_anonymous()).then(|| self.banned_key(bans, key)).flatten();
            if ban.is_none() && source.registered {
                let client = self.client_key(key, identity.claim(), known)?;
                ban = client.and_then(|client| self.banned_key(bans, client));
            }
            if ban.is_some() {
                return Ok(ban);
            }
        }
        Ok(None)
    }

    /// The ban of a client that is charged by hand, by its own key and by that of the client of the registry that it is.
    pub(super) fn banned_client(&self, key: Key, client: Option<Key>) -> Option<Duration> {
        let bans = self.bans.as_ref().filter(|bans| bans.any())?;
        let mut keys = [Some(key), client].into_iter().flatten();
        keys.find_map(|key| self.banned_key(bans, key)).map(|(_, time)| time)
    }

    /// What a client that is charged by hand under a rule is banned under, or on a list, where that is to be known.
    pub(super) fn client_by_hand(
        &self,
        rule: &CompiledRule,
        key: Key,
        who: Option<&Who>,
        known: &[Known],
    ) -> Result<Option<Key>, Lookup> {
        let is_asked = self.bans() || self.policy.lists.load().has_names();
        match who.filter(|_| rule.registered && is_asked) {
            None => Ok(None),
            Some(Who::Id(id)) => Ok(Some(Identity::name(&**id).key(&self.keys))),
            Some(Who::Nobody) => Ok(self.stand_in()),
            Some(who @ Who::Secret(_)) => self.owner_key(key, || who.clone(), known),
        }
    }

    /// What the registered client that comes by `key` is banned under, or on a list, if it is one.
    pub(super) fn client_key(
        &self,
        key: Key,
        claim: Claim<'_>,
        known: &[Known],
    ) -> Result<Option<Key>, Lookup> {
        match claim {
            Claim::Address => Ok(None),
            // Also of one that was deleted: whoever comes with its id has its ban.
            Claim::Name(id) => Ok(std::str::from_utf8(id).ok().map(|id| Identity::name(id).key(&self.keys))),
            Claim::Nobody => Ok(self.stand_in()),
            Claim::Secret(secret) => self.owner_key(key, || Who::Secret(KeyHash::of(secret)), known),
        }
    }

    /// The key of the client that stands in for those who do not say who they are.
    fn stand_in(&self) -> Option<Key> {
        let id = self.grants.as_ref()?.office.fallback()?;
        Some(Identity::name(id).key(&self.keys))
    }

    /// The key of the client that an API key is of. Where the registry cannot be asked, nobody is known.
    fn owner_key(&self, key: Key, who: impl FnOnce() -> Who, known: &[Known]) -> Result<Option<Key>, Lookup> {
        let Some(grants) = &self.grants else { return Ok(None) };
        if let Some(client) = grants.with(key, |granted| granted.client) {
            return Ok(Some(client));
        }
        let outcome = match known.iter().find(|(known, _)| *known == key) {
            Some((_, outcome)) => outcome.clone(),
            None => {
                let looked = grants.look_up(key, who(), None)?;
                self.note_looked(&looked);
                looked.outcome
            }
        };
        Ok(outcome.ok().map(|granted| granted.client))
    }

    fn banned_key(&self, bans: &Bans, key: Key) -> Option<InForce> {
        let (now, mut released) = (self.engine.now(), Released::new());
        let sentence = bans.check(key, now, &mut released);
        self.report_released(released);
        sentence.map(|sentence| (sentence.label, Duration::from_nanos(sentence.until.saturating_sub(now))))
    }

    /// Takes note that a request was refused.
    pub(crate) fn note_refusal(&self, charged: &Charged, head: RequestHead<'_>) {
        let Some(bans) = &self.bans else { return };
        let Some(rule) = self.offended(charged) else { return };
        let source = &self.policy.sources[rule.source];
        let Ok(identity) = source.identify(head, self.policy.proxies.as_ref()) else { return };
        let (method, route) = (Some(head.method()), self.route(head));
        let came_by = source.key_of(&identity, &self.keys);
        let is_noted =
            self.note_client(bans, rule, came_by, |label| self.occasion(Some(label), method, route));
        if !is_noted && !identity.is_anonymous() {
            let key = identity.key(&self.keys);
            let suspect = Suspect { key, label: identity.label(key), name: identity.as_name() };
            self.note(bans, suspect, &self.occasion(Some(suspect.label), method, route));
        }
    }

    /// Takes note that a charge by hand was refused.
    pub(super) fn note_refused_client(&self, charged: &Charged, key: Key, label: ClientLabel) {
        let Some(bans) = &self.bans else { return };
        let Some(rule) = self.offended(charged) else { return };
        let is_noted = self.note_client(bans, rule, key, |label| self.occasion(Some(label), None, None));
        if !is_noted && !label.is_anonymous() {
            let suspect = Suspect { key, label, name: None };
            self.note(bans, suspect, &self.occasion(Some(label), None, None));
        }
    }

    /// Takes note of a refusal of a registered client, under the key of its id and no other, so that there is one ban to lift;
    /// answers whether nobody else is to be noted.
    fn note_client<'a>(
        &self,
        bans: &Bans,
        rule: &CompiledRule,
        key: Key,
        occasion: impl FnOnce(ClientLabel) -> Occasion<'a>,
    ) -> bool {
        let Some(grants) = self.grants.as_ref().filter(|_| rule.registered) else { return false };
        let client = grants.with(key, |granted| granted.is_own().then(|| granted.record.clone()));
        let Some(client) = client else { return false };
        // Nobody answers for what others did whom it stands in for.
        let Some(record) = client else { return true };
        let identity = Identity::name(record.client_id());
        let key = identity.key(&self.keys);
        let suspect = Suspect { key, label: identity.label(key), name: Some(record.client_id()) };
        self.note(bans, suspect, &occasion(suspect.label));
        true
    }

    fn note(&self, bans: &Bans, suspect: Suspect<'_>, occasion: &Occasion<'_>) {
        let mut released = Released::new();
        let sentence = bans.refused(suspect, self.engine.now(), &mut released);
        self.report_released(released);
        if let Some(sentence) = sentence {
            self.report_banned(&sentence, occasion);
        }
    }

    /// The rule of the first limit that refused its client for what the client itself did.
    fn offended(&self, charged: &Charged) -> Option<&CompiledRule> {
        let limits = charged.asked.iter().filter(|asked| !asked.charge.shadow && !asked.reading.is_allowed());
        let limits = limits.map(|asked| &self.policy.limits[asked.limit]);
        let own = limits.filter(|limit| !matches!(limit.scope, Scope::Shared(_))).map(|limit| limit.rule);
        let permits = charged.refusing_permits().map(|number| &self.policy.concurrency[number]);
        let rule =
            own.chain(permits.filter(|limit| limit.shares != Shares::All).map(|limit| limit.rule)).next();
        rule.map(|rule| &self.policy.rules[rule])
    }

    pub(super) fn report_banned(&self, sentence: &Sentence, occasion: &Occasion<'_>) {
        let time = Duration::from_nanos(sentence.until.saturating_sub(self.engine.now()));
        self.emit(&Event::Banned { occasion, time, times: sentence.times });
    }

    pub(super) fn report_released(&self, released: Released) {
        for label in released {
            self.emit(&Event::Released(&self.occasion(Some(label), None, None)));
        }
    }
}
