#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::{Identity, key::Keys};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeMap;

const TERMS: Terms = Terms { refusals: 3, window: 60, first: 100, longest: 350, quiet: 1_000 };

/// Clients by number.
struct Court {
    bans: Bans,
    keys: Keys,
}

impl Court {
    fn new(clients: usize) -> Self {
        Self { bans: Bans::new(TERMS, clients), keys: Keys::new([7; 16]) }
    }

    fn client(&self, number: u32) -> (Key, ClientLabel) {
        let identity = Identity::name(number.to_string());
        let key = identity.key(&self.keys);
        (key, identity.label(key))
    }

    fn suspect(&self, number: u32) -> Suspect<'static> {
        let (key, label) = self.client(number);
        Suspect { key, label, name: Some("name") }
    }

    fn refused(&self, number: u32, now: u64) -> Option<Sentence> {
        self.bans.refused(self.suspect(number), now, &mut Released::new())
    }

    /// Refused as often as it takes; for how long it is banned then, and for which time in a row.
    fn banned(&self, number: u32, now: u64) -> (u64, u32) {
        let mut sentences = (0..TERMS.refusals).map(|_| self.refused(number, now));
        let sentence = sentences.find_map(|sentence| sentence).unwrap();
        (sentence.until - now, sentence.times)
    }

    fn check(&self, number: u32, now: u64) -> Option<u64> {
        let sentence = self.bans.check(self.client(number).0, now, &mut Released::new());
        sentence.map(|sentence| sentence.until)
    }
}

#[test]
fn so_many_refusals_in_a_window_are_a_ban() {
    let court = Court::new(64);
    for now in [1, 30, 61, 90, 121] {
        assert_eq!(court.refused(1, now), None, "at {now}: two in each window");
    }
    assert!(!court.bans.any());
    assert_eq!(court.refused(1, 122), None);
    let sentence = court.refused(1, 180).unwrap();
    assert_eq!((sentence.until, sentence.times), (280, 1));
    assert!(court.bans.any());
    assert_eq!(court.refused(1, 200), None, "a banned client's refusals do not count");
    assert_eq!((court.check(1, 279), court.check(2, 279)), (Some(280), None));
    assert_eq!(court.check(1, 280), None);
    assert!(!court.bans.any());
}

#[test]
fn bans_grow_up_to_a_maximum_and_after_a_quiet_time_they_are_short_again() {
    let court = Court::new(64);
    assert_eq!(court.banned(1, 1), (100, 1));
    assert_eq!(court.banned(1, 101), (200, 2));
    assert_eq!(court.banned(1, 1_300), (350, 3), "999 after the end of the second one");
    assert_eq!(court.banned(1, 1_650), (350, 4));
    assert_eq!(court.banned(2, 1_650), (100, 1));
    assert_eq!(court.banned(1, 3_000), (100, 1), "1,000 after the end of the fourth one");
    let endless = Terms { first: u64::MAX / 2, longest: u64::MAX, ..TERMS };
    assert_eq!((endless.length(3), endless.length(u32::MAX)), (u64::MAX, u64::MAX));
}

#[test]
fn bans_by_hand_are_listed_and_lifted_as_others_are() {
    let court = Court::new(64);
    let (key, label) = court.client(1);
    let mut released = Released::new();
    assert_eq!(court.bans.ban(court.suspect(1), 500, 10, &mut released).unwrap().until, 510);
    assert_eq!(
        court.bans.ban(court.suspect(1), 400, 20, &mut released).unwrap().until,
        420,
        "the last word holds"
    );
    court.banned(2, 30);
    let listed: Vec<_> =
        court.bans.list(40).into_iter().map(|(ban, _)| (ban.label, ban.until, ban.times)).collect();
    assert_eq!(listed, [(court.client(2).1, 130, 1), (label, 420, 0)]);
    assert_eq!(court.bans.list(130).len(), 1);
    let lift = |key, now| court.bans.lift(key, now).map(|(ban, _)| ban.label);
    assert_eq!(lift(key, 50), Some(label));
    assert_eq!(lift(key, 50), None);
    assert_eq!(court.check(1, 50), None);
    assert_eq!(lift(court.client(2).0, 130), None, "it is over");
    assert!(!court.bans.any());
    assert!(released.is_empty());
}

#[test]
fn a_ban_that_is_over_is_noticed_though_its_client_does_not_come_back() {
    let court = Court::new(64);
    for client in 0..20 {
        court.banned(client, 1);
    }
    let mut released = Released::new();
    for client in 100..1_100 {
        assert_eq!(court.bans.check(court.client(client).0, 101, &mut released), None);
    }
    assert_eq!(released.len(), 20);
    assert!(!court.bans.any());
}

#[test]
fn a_flood_of_clients_takes_no_more_room_and_frees_nobody() {
    let court = Court::new(256);
    for client in 0..20 {
        court.banned(client, 1);
    }
    for client in 1_000..20_000 {
        court.refused(client, 2);
    }
    assert!((0..20).all(|client| court.check(client, 3).is_some()));
    assert_eq!(court.bans.dropped(), 0, "others make room");
    // Who is refused again and again is banned in the midst of it.
    let mut sentences = (0..u64::from(TERMS.refusals)).map(|now| {
        for client in 0..100 {
            court.refused(30_000 + now as u32 * 100 + client, 4);
        }
        court.refused(77, 4 + now)
    });
    assert!(sentences.any(|sentence| sentence.is_some()));
}

#[test]
fn where_all_are_banned_newcomers_are_counted_and_not_banned() {
    let court = Court::new(16);
    for client in 0..500 {
        for _ in 0..TERMS.refusals {
            court.refused(client, 1);
        }
    }
    assert_eq!(court.bans.list(2).len(), 16);
    assert!(court.bans.dropped() > 0);
    assert_eq!(court.bans.ban(court.suspect(999), 10, 2, &mut Released::new()), None);
    let mut released = Released::new();
    assert!(court.bans.ban(court.suspect(999), 10, 101, &mut released).is_some(), "there is room again");
    assert_eq!(released.len(), 1);
    let none = Court::new(0);
    assert_eq!((none.refused(1, 1), none.check(1, 1), none.bans.dropped()), (None, None, 1));
}

#[test]
fn memory_is_what_it_says() {
    // With feature `redis` keys have two halves more.
    let bytes = Bans::bytes(1_600) / 1_600 + 16 - size_of::<Key>();
    assert!((120..150).contains(&bytes), "{bytes} bytes a client");
}

/// All that is known of a client, and nothing ever forgotten.
#[derive(Default)]
struct Known {
    refusals: Vec<u64>,
    since: u64,
    until: u64,
    times: u32,
}

impl Known {
    fn refused(&mut self, now: u64) -> Option<(u64, u32)> {
        if self.until > now {
            return None;
        }
        // Halves of windows from the first refusal on, and anew after one without any.
        let half = TERMS.window / 2;
        let number = |time: u64| (time - self.since) / half;
        if self.refusals.last().is_none_or(|last| number(now) - number(*last) > 1) {
            (self.since, self.refusals) = (now, Vec::new());
        }
        self.refusals.push(now);
        let number = |time: u64| (time - self.since) / half;
        let counted = self.refusals.iter().filter(|time| number(now) - number(**time) <= 1).count();
        let within = |time| self.refusals.iter().filter(|refusal| now - **refusal < time).count();
        let needed = TERMS.refusals as usize;
        assert!(counted < needed || within(TERMS.window) >= needed, "fewer in a window never lead to a ban");
        assert!(counted >= needed || within(half) < needed, "as many in half a window always do");
        if counted < needed {
            return None;
        }
        self.refusals.clear();
        self.times = if self.until + TERMS.quiet <= now { 1 } else { self.times + 1 };
        self.until = now + [0, 100, 200, 350][self.times.min(3) as usize];
        Some((self.until, self.times))
    }
}

proptest! {
    #[test]
    fn bans_are_as_the_model_says(acts in vec((0..3u32, 0..40u64, 0..12u32), 1..300)) {
        let court = Court::new(256);
        let mut known: BTreeMap<u32, Known> = BTreeMap::new();
        let mut now = 1;
        for (client, step, act) in acts {
            // Now and then much time passes.
            now += if step == 39 { 700 } else { step };
            let person = known.entry(client).or_default();
            let (key, label) = court.client(client);
            let mut released = Released::new();
            match act {
                0 => {
                    let was = (person.until > now).then_some(label);
                    prop_assert_eq!(court.bans.lift(key, now).map(|(ban, _)| ban.label), was);
                    *person = Known::default();
                }
                1 => {
                    let sentence = court.bans.ban(court.suspect(client), 50, now, &mut released).unwrap();
                    *person = Known { until: now + 50, ..Known::default() };
                    prop_assert_eq!(sentence.until, person.until);
                }
                _ => {
                    let sentence = court.bans.refused(court.suspect(client), now, &mut released);
                    let sentence = sentence.map(|sentence| (sentence.until, sentence.times));
                    prop_assert_eq!(sentence, person.refused(now));
                }
            }
            for (&client, person) in &known {
                prop_assert_eq!(court.check(client, now), (person.until > now).then_some(person.until));
            }
            prop_assert_eq!(court.bans.any(), known.values().any(|person| person.until > now));
        }
    }
}
