//! What somebody may have meant.

/// The known name that is most like this one, if any is like it.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let name = plain(name);
    let part =
        |known: &&str| name.len() >= 3 && (plain(known).contains(&name) || name.contains(&plain(known)));
    let distance = |known: &&str| strsim::damerau_levenshtein(&name, &plain(known));
    let best = known.iter().copied().min_by_key(distance)?;
    let is_near = distance(&best) <= (name.chars().count() / 3).max(1);
    if is_near { Some(best) } else { known.iter().copied().find(part) }
}

/// How to mend an unknown name: the one that may be meant, or all that there are.
pub(super) fn advice(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(best) => format!("did you mean {best:?}?"),
        None if known.is_empty() => "leave it out".to_owned(),
        None => {
            let all: Vec<_> = known.iter().map(|known| format!("{known:?}")).collect();
            format!("there are {}", all.join(", "))
        }
    }
}
