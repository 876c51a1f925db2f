//! The script that decides a list of charges: what it is told, and what it answers.

use super::{
    call::{Answer, Call, Stay},
    leases::Part,
    names::Names,
};
use crate::{Charge, Op, Rate, Reading, SlotReading};
use redis::{Cmd, Value};
use std::borrow::Cow;

/// What Redis runs.
pub(super) const SOURCE: &str = include_str!("charge.lua");

/// The command that runs it, by its hash or by its text.
pub(super) fn command(run: Run<'_>, names: &Names, call: &Call, clock: Option<Manual>) -> Cmd {
    let (charges, slots) = (&call.charges, call.slots());
    let mut cmd = match run {
        Run::Hash(hash) => Cmd::new().arg("EVALSHA").arg(hash).to_owned(),
        Run::Text => Cmd::new().arg("EVAL").arg(SOURCE).to_owned(),
    };
    cmd.arg(charges.len() + slots.len());
    let places = charges.iter().map(|charge| (charge.place, charge.limit));
    for (place, limit) in places.chain(slots.iter().map(|slot| (slot.place, slot.limit))) {
        cmd.arg(names.at(place, limit));
    }
    for (number, charge) in charges.iter().enumerate() {
        let Part { held, more } = call.part(number);
        let order = order(charge, held, call.returns);
        match more {
            0 => cmd.arg(order.as_flattened()),
            _ => cmd.arg([order.as_flattened(), doubles([more.into()]).as_flattened()].concat()),
        };
    }
    for slot in slots {
        cmd.arg(doubles([slot.max.into(), f64::from(u8::from(slot.shadow))]).as_flattened());
    }
    if clock.is_some() || call.stay.is_some() {
        let (now, slack) = clock.map_or((-1.0, SLACK), |Manual { micros }| (micros as f64, MANUAL_SLACK));
        let life = call.stay.as_ref().map_or(0.0, |stay| stay.life.as_micros() as f64);
        cmd.arg(doubles([slots.len() as f64, life, now, slack]).as_flattened());
    }
    if let Some(Stay { member, .. }) = &call.stay {
        cmd.arg(member);
    }
    cmd
}

/// How the script is named to Redis.
#[derive(Clone, Copy)]
pub(super) enum Run<'a> {
    Hash(&'a str),
    Text,
}

/// The time by a clock of the tests, in microseconds.
#[derive(Clone, Copy)]
pub(super) struct Manual {
    pub(super) micros: u64,
}

/// The milliseconds that a state outlives its debt.
const SLACK: f64 = 1_000.0;

/// The same by a clock that stands still: longer than any test.
const MANUAL_SLACK: f64 = 3_600_000.0;

/// A rate in the script's numbers: nanoseconds that doubles hold exactly.
///
/// Lua's numbers are doubles, which hold every whole number up to 2^53, and multiples of 2^k up to 2^(53 + k). What can be
/// owed is at most 2^53 ns where a full bucket comes back within 104 days; then nothing is rounded. Beyond, the interval
/// is rounded up to a multiple of the grain 2^k that the most debt asks for, by less than a millionth of itself, because
/// at most 2^33 units are ever owed. So charges add up exactly, never to less than was asked for.
#[derive(Debug, Clone, Copy)]
struct Amounts {
    rate: Rate,
    interval: u64,
}

impl Amounts {
    fn of(charge: &Charge) -> Self {
        let rate = charge.rate;
        let bits = 64 - charge.most_ns().leading_zeros();
        let grain = 1u64 << bits.saturating_sub(53);
        Self { rate, interval: rate.interval_ns().div_ceil(grain) * grain }
    }

    /// No bound of a charge overflows; the cost of one that can never fit may.
    const fn units(&self, units: u64) -> f64 {
        self.interval.saturating_mul(units) as f64
    }

    /// From nanoseconds at the rate to the script's.
    fn told(&self, nanos: u64) -> f64 {
        if self.interval == self.rate.interval_ns() {
            return nanos as f64;
        }
        (u128::from(nanos) * u128::from(self.interval) / u128::from(self.rate.interval_ns())) as f64
    }

    /// From the script's nanoseconds to those at the rate, rounded up.
    fn heard(&self, nanos: u64) -> u64 {
        if self.interval == self.rate.interval_ns() {
            return nanos;
        }
        let nanos = u128::from(nanos) * u128::from(self.rate.interval_ns());
        u64::try_from(nanos.div_ceil(self.interval.into())).unwrap_or(u64::MAX)
    }
}

/// What is added to the number of what a charge does, if it only watches.
const WATCHES: f64 = 8.0;

/// What the script is told of a charge of which some units are held already. What is given back forgives nothing else,
/// though the rate may have changed since.
fn order(charge: &Charge, held: u32, returns: bool) -> [[u8; 8]; 5] {
    let amounts = Amounts::of(charge);
    let (op, by) = match charge.op {
        Op::Take(units) => (0.0, amounts.units(units.saturating_sub(held).into())),
        Op::Peek(units) => (1.0, amounts.units(units.into())),
        Op::Give(nanos) => (2.0, amounts.told(nanos)),
        Op::Owe(units) => (3.0, amounts.units(units.into())),
        Op::Clear => (4.0, 0.0),
    };
    let burst = u64::from(charge.rate.burst().get());
    doubles([
        if charge.shadow { op + WATCHES } else { op },
        by,
        amounts.interval as f64,
        amounts.units(burst),
        if returns { f64::MAX } else { amounts.units(burst + u64::from(charge.max_debt)) },
    ])
}

/// As `struct.unpack('<dd..')` reads them.
fn doubles<const N: usize>(numbers: [f64; N]) -> [[u8; 8]; N] {
    numbers.map(f64::to_le_bytes)
}

/// What the script says: of each slot how many are used, and whether one was free; of each charge what is owed, and how
/// long until it fits, less than nothing for never; and how much was leased with each, if anything is. Nothing of charges
/// where a slot refuses.
pub(super) fn answer(call: &Call, answer: &Value) -> Result<Answer, Cow<'static, str>> {
    let Value::Array(numbers) = answer else {
        return Err("its script answered with no list".into());
    };
    let (slots, charges) = (call.slots().len(), call.charges.len());
    let wrong =
        || format!("its script answered {slots} slots and {charges} charges with {} numbers", numbers.len());
    let (said, rest) = numbers.split_at_checked(2 * slots).ok_or_else(wrong)?;
    let slots = said.chunks_exact(2).map(slot).collect::<Result<Vec<_>, _>>()?;
    let refused = slots.iter().zip(call.slots()).any(|(said, slot)| !said.is_free && !slot.shadow);
    let charges = if refused { 0 } else { charges };
    let (rest, granted) = rest.split_at_checked(2 * charges).ok_or_else(wrong)?;
    if granted.len() != if call.leases() { charges } else { 0 } {
        return Err(wrong().into());
    }
    let readings = call.charges.iter().zip(rest.chunks_exact(2)).map(reading).collect::<Result<_, _>>()?;
    let granted = granted.iter().map(units).collect::<Result<_, _>>()?;
    Ok(Answer { slots, readings, granted })
}

fn units(number: &Value) -> Result<u32, Cow<'static, str>> {
    let Value::Int(units) = number else { return Err(NO_NUMBERS.into()) };
    Ok(u32::try_from(*units).unwrap_or(0))
}

fn slot(numbers: &[Value]) -> Result<SlotReading, Cow<'static, str>> {
    let [Value::Int(used), Value::Int(free)] = numbers else { return Err(NO_NUMBERS.into()) };
    Ok(SlotReading { used: u32::try_from(*used).unwrap_or(u32::MAX), is_free: *free != 0 })
}

fn reading((charge, numbers): (&Charge, &[Value])) -> Result<Reading, Cow<'static, str>> {
    let [Value::Int(debt), Value::Int(wait)] = numbers else { return Err(NO_NUMBERS.into()) };
    let amounts = Amounts::of(charge);
    let debt = amounts.heard(u64::try_from(*debt).unwrap_or(0));
    Ok(match u64::try_from(*wait) {
        Ok(0) => Reading::allowed_ns(debt),
        Ok(wait) => Reading::refused_ns(debt, amounts.heard(wait)),
        Err(_) => Reading::never_ns(debt),
    })
}

const NO_NUMBERS: &str = "its script answered with something else than numbers";
