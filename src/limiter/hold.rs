//! Permits without HTTP.

use super::{ChargeError, ChargeFuture, Charging};
use crate::{Decision, Grant};
use std::{
    fmt,
    net::IpAddr,
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A decision with the permits that it gave. Dropped, they are given back; what was charged stays charged.
///
/// It is a [`Decision`] in all else.
#[derive(Debug)]
#[must_use = "permits are given back when this is dropped; keep it as long as the work goes on"]
pub struct Hold(Decision);

impl Hold {
    /// Gives the permits back and keeps the decision.
    pub fn release(mut self) -> Decision {
        self.0.charged.give_back();
        self.0
    }
}

impl Deref for Hold {
    type Target = Decision;

    fn deref(&self) -> &Decision {
        &self.0
    }
}

/// A charge with permits that is being put together; await it.
#[derive(Debug, Clone)]
#[must_use = "nothing is held before it is awaited"]
pub struct Holding<'a>(pub(super) Charging<'a>);

impl<'a> Holding<'a> {
    /// The units that each limit is charged. Of each limit on concurrency it takes one permit, whatever it costs.
    pub fn cost(self, units: u32) -> Self {
        Self(self.0.cost(units))
    }

    /// The template of the route, for limits per client and route; without it they count as unmatched.
    pub fn route(self, template: &'a str) -> Self {
        Self(self.0.route(template))
    }

    /// Where the client is; see [`Charging::address`].
    pub fn address(self, address: IpAddr) -> Self {
        Self(self.0.address(address))
    }

    /// The resource that it is for, which a registered client must be allowed to use.
    pub fn resource(self, name: &'a str) -> Self {
        Self(self.0.resource(name))
    }

    /// Overrides what a registered client was granted, if it may (see [`Overrides`](crate::Overrides)).
    pub fn with_limits(self, limits: &'a Grant) -> Self {
        Self(self.0.with_limits(limits))
    }
}

impl<'a> IntoFuture for Holding<'a> {
    type Output = Result<Hold, ChargeError>;
    type IntoFuture = HoldFuture<'a>;

    fn into_future(self) -> HoldFuture<'a> {
        HoldFuture(self.0.into_future())
    }
}

/// The decision and its permits. Dropped before, it leaves the line and holds nothing.
#[must_use = "futures do nothing unless polled"]
pub struct HoldFuture<'a>(ChargeFuture<'a>);

impl Future for HoldFuture<'_> {
    type Output = Result<Hold, ChargeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).map(Hold))
    }
}

impl fmt::Debug for HoldFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoldFuture").finish_non_exhaustive()
    }
}
