//! Prometheus' text format, version 0.0.4: the samples of a few metrics. Lines that are none are passed over.

/// Which samples make a signal.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) signal: String,
    metric: String,
    labels: Labels,
    fold: Fold,
}

/// What is made of several samples.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fold {
    Sum,
    Highest,
}

type Labels = Vec<(String, String)>;

impl Wanted {
    pub(super) fn new(signal: String, metric: &str, fold: Fold) -> Result<Self, String> {
        match series(metric.trim()) {
            Some((name, labels, "")) => Ok(Self { signal, metric: name.to_owned(), labels, fold }),
            _ => Err(format!(
                "{metric:?} is no metric; write its name, and labels if you want: `lag{{topic=\"orders\"}}`"
            )),
        }
    }

    fn is_of(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|label| labels.contains(label))
    }
}

/// The value of each that is wanted, where there is any sample.
pub(super) fn values(text: &str, wanted: &[Wanted]) -> Vec<Option<f64>> {
    let mut values = vec![None; wanted.len()];
    for line in text.lines().map(str::trim_start) {
        if !wanted.iter().any(|wanted| line.starts_with(&wanted.metric)) {
            continue;
        }
        let Some((name, labels, rest)) = series(line) else { continue };
        let Some(sample) = rest.split_whitespace().next().and_then(|value| value.parse::<f64>().ok()) else {
            continue;
        };
        let of = wanted
            .iter()
            .zip(&mut values)
            .filter(|(wanted, _)| wanted.metric == name && wanted.is_of(&labels));
        for (wanted, value) in of {
            *value = Some(match (*value, wanted.fold) {
                (None, _) => sample,
                (Some(before), Fold::Sum) => before + sample,
                (Some(before), Fold::Highest) => f64::max(before, sample),
            });
        }
    }
    values
}

/// A name, labels, and what comes after them.
fn series(line: &str) -> Option<(&str, Labels, &str)> {
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let Some(mut inside) = rest.trim_start().strip_prefix('{') else { return Some((name, labels, rest)) };
    loop {
        inside = inside.trim_start();
        if let Some(after) = inside.strip_prefix('}') {
            rest = after;
            return Some((name, labels, rest));
        }
        let (key, after) = inside.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.push((key.trim().to_owned(), value));
        let after = after.trim_start();
        inside = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with('}') => after,
            None => return None,
        };
    }
}

/// A quoted value, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let (mut value, mut escaped) = (String::new(), false);
    for (place, c) in text.char_indices() {
        match c {
            'n' if escaped => value.push('\n'),
            _ if escaped => value.push(c),
            '"' => return Some((value, &text[place + 1..])), // a quote is one byte
            '\\' => {}
            _ => value.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str, metric: &str, fold: Fold) -> Option<f64> {
        values(text, &[Wanted::new(String::new(), metric, fold).unwrap()])[0]
    }

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = r#"# HELP lag How far behind.
# TYPE lag gauge
lag{topic="a",partition="0"} 3 1700000000000
lag{topic="a",partition="1",} 4.5
 lag { topic = "b\"\\\n}" , partition="0" } 1e2
lag{topic="a" 7
lag{topic=a} 7
lag 0.5
lags 1000
lag_total{topic="a"} 1000
cpu NaN
up +Inf
"#;
        for (metric, sum, highest) in [
            ("lag", Some(108.0), Some(100.0)),
            (r#"lag{topic="a"}"#, Some(7.5), Some(4.5)),
            (r#"lag{partition="0",topic="a"}"#, Some(3.0), Some(3.0)),
            (r#"lag{topic="b\"\\\n}"}"#, Some(100.0), Some(100.0)),
            (r#"lag{topic="c"}"#, None, None),
            ("la", None, None),
            ("up", Some(f64::INFINITY), Some(f64::INFINITY)),
        ] {
            assert_eq!(value(text, metric, Fold::Sum), sum, "{metric}");
            assert_eq!(value(text, metric, Fold::Highest), highest, "{metric}");
        }
        for nonsense in ["", "{}", "1a", "a{", "a{b}", "a{b=\"c\"", "a b", "a{b=\"c\"} 1"] {
            let error = Wanted::new(String::new(), nonsense, Fold::Sum).unwrap_err();
            assert!(error.starts_with(&format!("{nonsense:?} is no metric")), "{error}");
        }
    }

    proptest! {
        /// Whatever comes, nothing panics, and what was written is read.
        #[test]
        fn hostile_text_is_read(text in "(?s)[lag{}\"\\\\=, \n0-9\u{e9}]{0,80}", label in "(?s).{0,20}", number in -1e9..1e9f64) {
            value(&text, "lag", Fold::Sum);
            let escaped = label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let escaped = escaped.replace('\r', "");
            let written = format!("lag{{a=\"{escaped}\"}} {number}");
            prop_assert_eq!(value(&written, "lag", Fold::Sum), Some(number));
            let metric = format!("lag{{a=\"{escaped}\"}}");
            prop_assert_eq!(value(&written, &metric, Fold::Sum), Some(number));
        }
    }
}
