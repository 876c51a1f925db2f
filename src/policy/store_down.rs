/// What becomes of a charge that the store cannot decide, because it cannot be reached or fails.
///
/// Limits that a request is charged for together agree so: if any of them denies, the request is refused; else those that
/// are local decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StoreDown {
    /// The request is refused with 503 and `Retry-After`.
    #[default]
    Deny,
    /// The limit lets the request pass, uncounted.
    Allow,
    /// The limit is counted in memory, at its part of the quota: the rate and burst by the number of instances that lived
    /// when the store was last reached. The burst is no smaller than what a request costs.
    ///
    /// Each instance begins with a whole part, whatever clients had spent before. So all of them together admit
    /// at most one burst more than the quota would, and more where a part of the burst is less than one request.
    Local,
}
