//! Timing, round by round, so that what disturbs the machine disturbs all alike.

use crate::work::{BATCH, Drive, Subject, Worker};
use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// How the clients of a run follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Law {
    Uniform,
    /// The n-th most frequent of them comes 1/n times as often as the first.
    Zipf,
}

/// A sequence of clients, the same for all that are measured.
pub(crate) fn sequence(keys: u32, law: Law) -> Vec<u32> {
    let mut random = Random(0x5EED ^ u64::from(keys));
    let length = if keys == 1 { 64 * BATCH } else { 1 << 20 };
    match law {
        Law::Uniform => (0..length).map(|_| random.below(keys)).collect(),
        Law::Zipf => {
            let mut sum = 0.0;
            let sums: Vec<f64> = (1..=keys)
                .map(|rank| {
                    sum += 1.0 / f64::from(rank);
                    sum
                })
                .collect();
            let most = keys as usize - 1;
            (0..length)
                .map(|_| sums.partition_point(|s| *s < random.fraction() * sum).min(most) as u32)
                .collect()
        }
    }
}

/// SplitMix64: the sequences need nothing better.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let bits = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u32
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How a subject is measured.
pub(crate) struct Plan<'a> {
    pub(crate) drive: Drive,
    pub(crate) threads: usize,
    pub(crate) sequence: &'a [u32],
    /// How long each turn is; a quarter more goes before, to warm up.
    pub(crate) turn: Duration,
    pub(crate) rounds: usize,
}

impl Plan<'_> {
    /// Nanoseconds a request, for each subject and round. Rounds begin with another subject each.
    pub(crate) fn measure(&self, subjects: &[&dyn Subject]) -> Vec<Vec<f64>> {
        self.measure_by(subjects, mean)
    }

    /// The same of the median batch of each turn, which is not longer because neighbours took the processor away meanwhile.
    pub(crate) fn measure_batches(&self, subjects: &[&dyn Subject]) -> Vec<Vec<f64>> {
        self.measure_by(subjects, median)
    }

    fn measure_by(&self, subjects: &[&dyn Subject], figure: fn(&[f64]) -> f64) -> Vec<Vec<f64>> {
        let mut times = vec![Vec::new(); subjects.len()];
        for round in 0..self.rounds {
            for turn in 0..subjects.len() {
                let subject = (turn + round) % subjects.len();
                times[subject].push(figure(&self.turn(subjects[subject])));
            }
        }
        times
    }

    /// Nanoseconds a request, for each batch of all threads.
    fn turn(&self, subject: &dyn Subject) -> Vec<f64> {
        let barrier = Barrier::new(self.threads);
        let thread = |number: usize| {
            let mut worker = subject.worker(self.drive);
            barrier.wait();
            self.work(&mut *worker, number * self.sequence.len() / self.threads / BATCH * BATCH)
        };
        if self.threads == 1 {
            return thread(0);
        }
        thread::scope(|scope| {
            let thread = &thread;
            let threads: Vec<_> = (0..self.threads).map(|n| scope.spawn(move || thread(n))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn work(&self, worker: &mut dyn Worker, mut at: usize) -> Vec<f64> {
        let begin = Instant::now();
        let mut times = Vec::with_capacity(1 << 16);
        loop {
            worker.prepare(&self.sequence[at..at + BATCH]);
            at = (at + BATCH) % self.sequence.len();
            let start = Instant::now();
            worker.run();
            let end = Instant::now();
            if end - begin > self.turn / 4 {
                times.push((end - start).as_nanos() as f64 / BATCH as f64);
            }
            if end - begin > self.turn + self.turn / 4 {
                return times;
            }
        }
    }
}

/// One request of each client, so that all are known.
pub(crate) fn visit(subject: &dyn Subject, keys: u32) {
    let mut worker = subject.worker(Drive::Call);
    let clients: Vec<u32> = (0..keys).collect();
    for clients in clients.chunks(BATCH) {
        worker.prepare(clients);
        worker.run();
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
