//! What the keys of a registry are called.

/// All in one slot of a cluster, because changes touch several.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) records: String,
    pub(super) ids: String,
    pub(super) owners: String,
    pub(super) tiers: String,
    pub(super) uninvited: String,
    pub(super) version: String,
    /// Where changes are told.
    pub(super) channel: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let key = |name: &str| format!("{prefix}{{registry}}{name}");
        Self {
            records: key("clients"),
            ids: key("ids"),
            owners: key("keys"),
            tiers: key("tiers"),
            uninvited: key("uninvited"),
            version: key("version"),
            channel: key("changes"),
        }
    }
}
