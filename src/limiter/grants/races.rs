//! A client that is looked up while it changes.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Clients, Limit, MemoryRegistry, Policy, Quota, Rule, Source};
use loom::thread;
use std::sync::atomic::Ordering::Relaxed;

fn grants() -> Arc<Grants> {
    let limit = Limit::per_client("requests", Quota::per_minute(7)).granted();
    let policy =
        Policy::new().identify(Source::header("id").registered()).rule(Rule::new("api").limit(limit));
    let (keys, mut mistakes) = (Keys::new([7; 16]), Vec::new());
    let policy = Compiled::new(&policy, None, &keys, true, &mut mistakes);
    let office = Office::new(Clients::new(MemoryRegistry::new()), &mut mistakes);
    assert!(mistakes.is_empty());
    Grants::new(Arc::new(office), keys, &policy, 1)
}

fn ann(grants: &Grants) -> Key {
    Identity::name("ann").key(&grants.keys)
}

/// What a registry says of the client that has so many requests a minute.
fn found(grants: &Grants, requests: u32) -> Granted {
    let record = Arc::new(ClientRecord::new("ann", SystemTime::UNIX_EPOCH));
    let grant = Grant::new().requests_per_min(requests);
    grants.granted(Found { record, grant, until: None, how: How::Known })
}

/// The requests a minute that a request finds at hand.
fn at_hand(grants: &Grants) -> Option<u32> {
    let rates = grants.plain(ann(grants), &HeaderMap::new())?;
    Some(rates.of(Some(0)).unwrap().burst().get())
}

/// One thread looks the client up and keeps what it found; meanwhile the registry changes it, and tells of that.
fn change_while_found(changed: Changed<'static>, known_before: bool) {
    loom::model(move || {
        let (grants, registry) = (grants(), Arc::new(AtomicU64::new(1)));
        if known_before {
            grants.keep(ann(&grants), found(&grants, 1), grants.epoch());
            assert_eq!(at_hand(&grants), Some(1));
        }
        let finding = thread::spawn({
            let (grants, registry) = (grants.clone(), registry.clone());
            move || {
                let epoch = grants.epoch();
                let requests = registry.load(Relaxed) as u32;
                grants.keep(ann(&grants), found(&grants, requests), epoch);
            }
        });
        registry.store(2, Relaxed);
        grants.forget(&changed);
        // Here the change is answered, and a request comes.
        assert_ne!(at_hand(&grants), Some(1));
        finding.join().unwrap();
        assert_ne!(at_hand(&grants), Some(1));
    });
}

#[test]
fn a_request_after_a_change_was_answered_never_finds_the_old_grade() {
    for known_before in [false, true] {
        change_while_found(Changed::Client("ann"), known_before);
        change_while_found(Changed::Tiers, known_before);
    }
}

/// A request that comes meanwhile may go by either, but never by nothing at all that was granted.
#[test]
fn a_request_sees_one_grade_whole() {
    loom::model(|| {
        let grants = grants();
        grants.keep(ann(&grants), found(&grants, 1), grants.epoch());
        let asking = thread::spawn({
            let grants = grants.clone();
            move || [at_hand(&grants), at_hand(&grants)]
        });
        grants.forget(&Changed::Client("ann"));
        grants.keep(ann(&grants), found(&grants, 2), grants.epoch());
        let seen = asking.join().unwrap();
        assert!(seen.iter().flatten().is_sorted(), "{seen:?}");
        assert!(seen.iter().flatten().all(|requests| [1, 2].contains(requests)), "{seen:?}");
    });
}
