#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    Joining,
    redis::{names::Names, servers::Servers, timing::Timing},
};
use std::{sync::mpsc, thread};

/// Calls that fail meanwhile write the state, and all others would have to wait behind them.
#[test]
fn whoever_is_told_of_it_holds_nobody_up() {
    let server = Servers::One(redis::Client::open("redis://127.0.0.1:1").unwrap());
    let link = Arc::new(Link::new(server, Names::new("tg:".into()), Timing::default(), 1, None));
    let (done, told) = mpsc::channel();
    let weak = Arc::downgrade(&link);
    let tell = move |_: StoreChange<'_>| {
        let (link, (passed, passes)) = (weak.upgrade().unwrap(), mpsc::channel());
        thread::spawn(move || {
            link.enter(State::Down("another reason".into()));
            passed.send(())
        });
        done.send(passes.recv_timeout(Duration::from_secs(10)).is_ok()).unwrap();
    };
    link.host.set(Joining::new(None, Vec::new(), Vec::new(), tell)).unwrap();
    refuse(&link, Failure::NotSent("nobody is there".into()));
    assert_eq!(told.try_recv(), Ok(true));
}
