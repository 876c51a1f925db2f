//! Clients that the registry does not know.

use crate::Quota;

/// What becomes of a request whose client id is well formed and not in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct UnknownClients {
    pub(super) fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Create { each_address: Quota, total: usize },
    Refuse,
    Share,
}

impl UnknownClients {
    /// It is created, in the tier `default`: at most 10 an hour from each address, and 10,000 in all.
    ///
    /// What comes beyond these bounds is not created and shares one client in the tier `default`, so that inventing ids
    /// never buys more.
    pub const fn create() -> Self {
        Self { fate: Fate::Create { each_address: Quota::per_hour(10), total: 10_000 } }
    }

    /// It is refused with 401.
    pub const fn refuse() -> Self {
        Self { fate: Fate::Refuse }
    }

    /// It is not stored: all unknown clients are one, in the tier `default`.
    pub const fn share() -> Self {
        Self { fate: Fate::Share }
    }

    /// How many clients are created for one address, an IPv6 one being its /64.
    pub const fn each_address(mut self, quota: Quota) -> Self {
        if let Fate::Create { total, .. } = self.fate {
            self.fate = Fate::Create { each_address: quota, total };
        }
        self
    }

    /// How many clients there may be that were created so. They are counted from their records, so that this holds across
    /// restarts; whom somebody has changed since, or deleted, is not among them.
    pub const fn total(mut self, clients: usize) -> Self {
        if let Fate::Create { each_address, .. } = self.fate {
            self.fate = Fate::Create { each_address, total: clients };
        }
        self
    }
}

impl Default for UnknownClients {
    fn default() -> Self {
        Self::create()
    }
}
