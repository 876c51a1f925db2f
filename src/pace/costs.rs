use smallvec::SmallVec;

/// What a send costs of each limit, in units.
///
/// A number is charged to every limit. With a list of limits and units, each is charged its own, and limits that are
/// not named are charged what they say of every request, which is 1 unless set:
///
/// ```
/// # use tidegate::Costs;
/// # fn takes<'a>(_: impl Into<Costs<'a>>) {}
/// takes(3);
/// takes([("records", 500), ("kibibytes", 64)]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Costs<'a>(Kind<'a>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind<'a> {
    Every(u32),
    Named(SmallVec<[(&'a str, u32); 2]>),
}

impl<'a> Costs<'a> {
    /// The units of each limit, in the order of `limits`, which are names and usual costs; or the name that is none of
    /// them.
    pub(super) fn of<'l>(
        &self,
        limits: impl Iterator<Item = (&'l str, u32)>,
    ) -> Result<SmallVec<[u32; 4]>, &'a str> {
        let named = match &self.0 {
            Kind::Every(units) => return Ok(limits.map(|_| *units).collect()),
            Kind::Named(named) => named,
        };
        let limits: SmallVec<[(&str, u32); 4]> = limits.collect();
        if let Some((name, _)) = named.iter().find(|(name, _)| limits.iter().all(|(limit, _)| limit != name))
        {
            return Err(name);
        }
        let own = |name| named.iter().find(|(limit, _)| *limit == name).map(|(_, units)| *units);
        Ok(limits.into_iter().map(|(name, usual)| own(name).unwrap_or(usual)).collect())
    }
}

impl From<u32> for Costs<'_> {
    fn from(units: u32) -> Self {
        Self(Kind::Every(units))
    }
}

impl<'a, const N: usize> From<[(&'a str, u32); N]> for Costs<'a> {
    fn from(named: [(&'a str, u32); N]) -> Self {
        Self::from(&named[..])
    }
}

impl<'a> From<&[(&'a str, u32)]> for Costs<'a> {
    fn from(named: &[(&'a str, u32)]) -> Self {
        Self(Kind::Named(SmallVec::from(named)))
    }
}

/// One unit of every limit.
impl Default for Costs<'_> {
    fn default() -> Self {
        Self(Kind::Every(1))
    }
}
