//! What was answered is there when the file is opened again.

use crate::stage::*;
use futures_util::future::join_all;
use proptest::prelude::*;
use std::{fs, time::Duration};
use tidegate::*;

#[test]
fn what_was_answered_is_there_when_it_is_opened_again() {
    let scratch = Scratch::new();
    let clients = open(&scratch.file());
    let before = block(async {
        let grant = Grant::new().requests_per_min(9).limit("exports", Quota::per_hour(3));
        let patch = ClientPatch::new().tier("premium").rate_limit(grant.clone()).allowed_queues(["a"]);
        clients.set("ann", patch.webhook_url(Some("https://a.example/".into()))).await.unwrap();
        clients.grant("ann", grant, Duration::from_secs(3600)).await.unwrap();
        let key = clients.issue_key("ann").await.unwrap();
        clients.rotate_key("ann", key.key().prefix(), Duration::from_secs(60)).await.unwrap();
        clients.set("bob", ClientPatch::new()).await.unwrap();
        clients.delete("bob").await.unwrap();
        clients.set_tier("partner", Grant::new().max_concurrent(8)).await.unwrap();
        clients.remove_tier("free").await.unwrap();
        key
    });
    let kept = all(&clients);
    drop(clients);
    let again = open(&scratch.file());
    assert_eq!(all(&again), kept);
    let owner = block(again.owner(before.secret())).unwrap().unwrap();
    assert_eq!(owner.client_id(), "ann", "keys find their client again");
    let text = String::from_utf8_lossy(&fs::read(scratch.file()).unwrap()).into_owned();
    assert!(!text.contains(before.secret()));
}

#[test]
fn tiers_that_were_not_set_are_those_of_the_configuration() {
    let scratch = Scratch::new();
    let tiers = |requests| Tiers::new().with("free", Grant::new().requests_per_min(requests)).unwrap();
    let free = |registry: MemoryRegistry| {
        let clients = Clients::new(registry);
        block(clients.set("ann", ClientPatch::new())).unwrap();
        block(clients.tiers()).unwrap().get("free").unwrap().clone()
    };
    for requests in [1, 2] {
        let registry = MemoryRegistry::open_with_tiers(scratch.file(), tiers(requests)).unwrap();
        assert_eq!(free(registry), Grant::new().requests_per_min(requests));
    }
    let clients = open(&scratch.file());
    block(clients.set_tier("free", Grant::new().requests_per_min(3))).unwrap();
    drop(clients);
    let registry = MemoryRegistry::open_with_tiers(scratch.file(), tiers(4)).unwrap();
    assert_eq!(free(registry), Grant::new().requests_per_min(3));
}

#[test]
fn a_file_that_has_grown_is_written_anew() {
    let scratch = Scratch::new();
    let clients = open(&scratch.file());
    block(async {
        clients.set_tier("partner", Grant::new().max_concurrent(8)).await.unwrap();
        let queues: Vec<_> = (0..100).map(|i| format!("queue-{i:04}")).collect();
        for turn in 0..60u32 {
            let set = (0..200).map(|i| {
                let patch = ClientPatch::new().allowed_queues(&queues);
                let patch = patch.rate_limit(Grant::new().requests_per_min(1 + turn));
                let clients = clients.clone();
                async move { clients.set(&format!("client-{i}"), patch).await.unwrap() }
            });
            join_all(set).await;
        }
    });
    let kept = all(&clients);
    drop(clients);
    let size = fs::metadata(scratch.file()).unwrap().len();
    assert!(size < 9 << 20, "{size} bytes, of some 17 MB that were written");
    assert_eq!(all(&open(&scratch.file())), kept);
    assert_eq!(kept.0.len(), 200);
}

#[cfg(unix)]
#[test]
fn whoever_may_not_read_it_may_not_once_it_is_written_anew() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let mode = || fs::metadata(scratch.file()).unwrap().permissions().mode() & 0o777;
    fs::write(scratch.file(), "").unwrap();
    fs::set_permissions(scratch.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let clients = open(&scratch.file());
    assert_eq!(mode(), 0o600, "it is begun in a file that was there");
    let queues: Vec<_> = (0..1_000).map(|i| format!("{i:0250}")).collect();
    let (mut size, mut turns) = (0, 0);
    while fs::metadata(scratch.file()).unwrap().len() >= size {
        size = fs::metadata(scratch.file()).unwrap().len();
        let patch = ClientPatch::new().allowed_queues(&queues).enabled(turns % 2 == 0);
        block(clients.set("ann", patch)).unwrap();
        turns += 1;
        assert!(turns < 100, "it only grows");
    }
    assert_eq!(mode(), 0o600);
}

/// Or each start would create as many again.
#[test]
fn how_many_may_be_created_holds_across_restarts() {
    let scratch = Scratch::new();
    let mut created = Vec::new();
    for start in 0..3 {
        let unknown = UnknownClients::create().each_address(Quota::per_second(1_000)).total(3);
        let id = Source::header("client").registered();
        let limit = Limit::per_client("requests", Quota::per_minute(9)).granted();
        let policy = Policy::new().identify(id).rule(Rule::new("rule").by_hand().limit(limit));
        let limiter =
            Limiter::builder(policy).clients(open(&scratch.file()).unknown(unknown)).build().unwrap();
        for i in 0..2 {
            let id = format!("new-{start}-{i}");
            let address = [192, 0, 2, 1].into();
            block(limiter.client(&Identity::name(id)).charge("rule").address(address).into_future()).unwrap();
        }
        created.push(block(limiter.clients().unwrap().page(None, 1)).unwrap().count);
    }
    assert_eq!(created, [2, 3, 3]);
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, u32),
    Delete(u8),
    Tier(u8, u32),
    Key(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6u8, 1..100u32).prop_map(|(id, n)| Step::Set(id, n)),
        2 => (0..6u8).prop_map(Step::Delete),
        1 => (0..3u8, 1..100u32).prop_map(|(id, n)| Step::Tier(id, n)),
        1 => (0..6u8).prop_map(Step::Key),
        2 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// Beside a registry that is only in memory.
    #[test]
    fn any_changes_are_kept(steps in steps()) {
        let scratch = Scratch::new();
        let mut clients = open(&scratch.file());
        for step in steps {
            let before = all(&clients);
            match step {
                Step::Set(id, n) => {
                    let patch = ClientPatch::new().rate_limit(Grant::new().requests_per_min(n));
                    block(clients.set(&format!("client-{id}"), patch)).unwrap();
                }
                Step::Delete(id) => {
                    let gone = block(clients.delete(&format!("client-{id}"))).unwrap();
                    prop_assert_eq!(gone, before.0.contains_key(&format!("client-{id}")));
                }
                Step::Tier(id, n) => {
                    block(clients.set_tier(&format!("tier-{id}"), Grant::new().requests_per_min(n))).unwrap();
                }
                Step::Key(id) => {
                    let issued = block(clients.issue_key(&format!("client-{id}")));
                    prop_assert_eq!(issued.is_ok(), before.0.contains_key(&format!("client-{id}")));
                }
                Step::Reopen => {
                    drop(clients);
                    clients = open(&scratch.file());
                    prop_assert_eq!(all(&clients), before);
                }
            }
        }
    }
}
