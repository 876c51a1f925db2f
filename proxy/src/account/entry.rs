//! What one request came to.

use super::{Accounts, line::Head, meters};
use crate::fields::Peer;
use http::{Extensions, Request, Response, StatusCode};
use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tidegate::{Decision, Limiter, RequestHead};

/// nginx's status for a client that has left before its answer.
const CLIENT_LEFT: u16 = 499;

/// What one request came to. It is told when this is dropped: at the end of the answer, or when the client leaves.
#[derive(Debug)]
pub(crate) struct Account {
    accounts: Arc<Accounts>,
    begun: Instant,
    /// The number of its method, for the metrics.
    method: usize,
    head: Option<Head>,
    sent: Arc<Sent>,
    answer: Option<Answer>,
    bytes: u64,
    is_whole: bool,
}

/// When the limits have admitted a request, and what they said. It is in the request's extensions until it is forwarded.
#[derive(Debug, Default)]
pub(crate) struct Sent(OnceLock<(Instant, Option<Arc<Decision>>)>);

#[derive(Debug)]
struct Answer {
    at: Instant,
    status: StatusCode,
    /// What a refusal brought along.
    decision: Option<Arc<Decision>>,
}

/// What limits said, in the words of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome<'a> {
    pub(super) word: &'static str,
    pub(super) rule: Option<&'a str>,
}

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) decision: Duration,
    pub(super) upstream: Option<Duration>,
    pub(super) total: Duration,
}

/// All that is known at the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outturn<'a> {
    pub(super) status: u16,
    pub(super) bytes: u64,
    pub(super) is_whole: bool,
    pub(super) outcome: Outcome<'a>,
    pub(super) times: Times,
}

impl Sent {
    /// Notes that a request goes to the upstream now.
    pub(crate) fn note(extensions: &Extensions) {
        if let Some(Self(sent)) = extensions.get::<Arc<Self>>().map(|sent| &**sent) {
            let _ = sent.set((Instant::now(), extensions.get::<Arc<Decision>>().cloned()));
        }
    }
}

impl Account {
    /// Begins with a request, before the limits see it.
    pub(crate) fn begin<B>(
        accounts: &Arc<Accounts>,
        limiter: &Limiter,
        peer: &Peer,
        id: Option<&[u8]>,
        request: &mut Request<B>,
    ) -> Self {
        let begun = Instant::now();
        let head = accounts.sink.is_some().then(|| {
            let client = client(limiter, peer, RequestHead::new(request));
            Head::new(accounts, client, id, RequestHead::new(request))
        });
        let sent = Arc::<Sent>::default();
        request.extensions_mut().insert(sent.clone());
        let accounts = accounts.clone();
        let method = meters::method(request.method());
        Self { accounts, begun, method, head, sent, answer: None, bytes: 0, is_whole: false }
    }

    /// The head of the answer is there.
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        let decision = response.extensions().get::<Arc<Decision>>().cloned();
        self.answer = Some(Answer { at: Instant::now(), status: response.status(), decision });
    }

    /// So many bytes of the answer's body are handed on, and perhaps these were all.
    pub(crate) fn passed(&mut self, bytes: usize, is_end: bool) {
        self.bytes += bytes as u64;
        self.is_whole |= is_end;
    }

    fn outturn(&self) -> Outturn<'_> {
        let now = Instant::now();
        let (at, admitted) = match self.sent.0.get() {
            Some((at, decision)) => (Some(*at), decision.as_deref()),
            None => (None, None),
        };
        let answered = self.answer.as_ref().map_or(now, |answer| answer.at);
        let refused = self.answer.as_ref().and_then(|answer| answer.decision.as_deref());
        Outturn {
            status: self.answer.as_ref().map_or(CLIENT_LEFT, |answer| answer.status.as_u16()),
            bytes: self.bytes,
            is_whole: self.is_whole,
            outcome: outcome(admitted.or(refused), at.is_some(), self.answer.is_some()),
            times: Times {
                decision: at.unwrap_or(answered) - self.begun,
                upstream: at.map(|at| answered - at),
                total: now - self.begun,
            },
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let head = self.head.take();
        let outturn = self.outturn();
        if self.accounts.is_metered {
            meters::count(self.method, &outturn);
        }
        if let (Some(sink), Some(head)) = (&self.accounts.sink, head) {
            sink.push(&head.line(&outturn));
        }
    }
}

fn client(limiter: &Limiter, peer: &Peer, head: RequestHead<'_>) -> Option<IpAddr> {
    let named = if peer.is_trusted { limiter.client_address(head).ok().flatten() } else { None };
    named.or_else(|| Some(peer.address.ip().to_canonical()))
}

/// What the limits said: to a request that went on, or was answered without.
fn outcome(decision: Option<&Decision>, is_sent: bool, is_answered: bool) -> Outcome<'_> {
    let Some(decision) = decision else {
        let word = match (is_sent, is_answered) {
            (true, _) => "unlimited",
            (false, true) => "rejected",
            (false, false) => "undecided",
        };
        return Outcome { word, rule: None };
    };
    let violated = decision.limits().find(|limit| !limit.reading().is_allowed()).map(|limit| limit.rule());
    let held = || decision.permits().find(|permit| !permit.is_allowed()).map(|permit| permit.rule());
    let first = || decision.limits().next().map(|limit| limit.rule());
    let any = || decision.permits().next().map(|permit| permit.rule());
    let violated = violated.or_else(held);
    let word = match (decision.is_allowed(), is_sent, violated) {
        (false, _, _) => "refused",
        (true, false, _) => "rejected",
        (true, true, Some(_)) => "shadow_refused",
        (true, true, None) => "allowed",
    };
    Outcome { word, rule: violated.or_else(first).or_else(any) }
}
