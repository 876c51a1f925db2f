//! A line for each case, as JSON and as a table.

use serde::{Deserialize, Serialize};

/// Times are nanoseconds a request; layers are told less the bare service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) threads: usize,
    pub(crate) keys: u32,
    pub(crate) ns: Option<f64>,
    pub(crate) peer: Option<String>,
    pub(crate) peer_ns: Option<f64>,
    /// Ours to the peer's.
    pub(crate) ratio: Option<f64>,
    pub(crate) allocs: Option<f64>,
    pub(crate) peer_allocs: Option<f64>,
    /// What is no time, in its unit.
    pub(crate) value: Option<f64>,
    pub(crate) peer_value: Option<f64>,
    pub(crate) unit: Option<String>,
    /// The most that the ratio may be; of a value without a peer, the most that it may be, and of allocations likewise.
    pub(crate) goal: Option<f64>,
    pub(crate) met: Option<bool>,
}

impl Row {
    pub(crate) fn new(case: impl Into<String>, threads: usize, keys: u32) -> Self {
        Self { case: case.into(), threads, keys, ..Self::default() }
    }

    pub(crate) fn time(mut self, ns: f64) -> Self {
        self.ns = Some(round(ns));
        self
    }

    pub(crate) fn beside(mut self, peer: &str, ns: f64) -> Self {
        self.peer = Some(peer.to_owned());
        self.peer_ns = Some(round(ns));
        self.ratio = self.ns.map(|ours| (1_000.0 * ours / ns).round() / 1_000.0);
        self
    }

    pub(crate) fn value(mut self, value: f64, unit: &str) -> Self {
        self.value = Some(value);
        self.unit = Some(unit.to_owned());
        self
    }

    pub(crate) fn beside_value(mut self, peer: &str, value: f64) -> Self {
        self.peer = Some(peer.to_owned());
        self.peer_value = Some(value);
        self
    }

    pub(crate) fn goal(mut self, goal: Option<f64>) -> Self {
        self.goal = goal;
        self.met = goal.zip(self.ratio.or(self.value).or(self.allocs)).map(|(goal, value)| value <= goal);
        self
    }

    /// Tells it to whoever started this process.
    pub(crate) fn print(&self) {
        println!("{}", serde_json::to_string(self).unwrap());
    }
}

fn round(ns: f64) -> f64 {
    (10.0 * ns).round() / 10.0
}

/// The rows for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        ["case", "threads", "keys", "ours", "allocs", "peer", "peer's", "ratio", "goal", "met"]
            .map(String::from)
            .to_vec(),
    ];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect();
    lines.insert(1, rule);
    let join = |line: &Vec<String>| -> String {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    lines.iter().map(join).collect()
}

fn cells(row: &Row) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(String::new, plain);
    let unit = row.unit.as_deref().unwrap_or("ns");
    let with_unit = |time: Option<f64>, value: Option<f64>| {
        time.or(value).map_or_else(String::new, |value| format!("{} {unit}", plain(value)))
    };
    vec![
        row.case.clone(),
        row.threads.to_string(),
        row.keys.to_string(),
        with_unit(row.ns, row.value),
        number(row.allocs),
        row.peer.clone().unwrap_or_default(),
        with_unit(row.peer_ns, row.peer_value),
        number(row.ratio),
        row.goal.map_or_else(String::new, |goal| format!("<= {}", plain(goal))),
        row.met.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
    ]
}

fn plain(value: f64) -> String {
    let digits = if value.fract() == 0.0 {
        0
    } else if value.abs() < 10.0 {
        3
    } else {
        1
    };
    format!("{value:.digits$}")
}
