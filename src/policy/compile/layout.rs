//! Where what limits count lies.

/// The names of limits in the order in which they were first seen, which tells their places. What is owed lies at these, so they
/// outlive a policy, and a name that was left out keeps its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// For each kind of [`Shares`](super::Shares).
    pub(super) rates: [Vec<String>; 3],
    pub(super) concurrency: Vec<String>,
}

/// The place of a name, which it has from now on.
pub(super) fn place_of(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}
