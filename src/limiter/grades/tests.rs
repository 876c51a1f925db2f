use super::*;
use std::{collections::HashMap, num::NonZeroU32};

fn key(number: u64) -> Key {
    let mix = |factor: u64| {
        let bits = (number + 1).wrapping_mul(factor);
        (bits ^ bits >> 29).wrapping_mul(0x94D0_49BB_1331_11EB)
    };
    let (hi, lo) = (mix(0x9E37_79B9_7F4A_7C15), mix(0xD1B5_4A32_D192_ED03));
    Key::new(hi ^ hi >> 32, lo ^ lo >> 32)
}

fn rates(number: u32) -> Rates {
    let rate = |burst| NonZeroU32::new(burst).map(|burst| Rate::for_test(1_000, burst.get()));
    Rates::new([rate(number), rate(number % 3)].into_iter())
}

/// Beside a map: who is found has what was put there last, whoever was put, removed and cleared.
#[test]
fn who_is_found_has_what_was_put_there_last() {
    let (grades, mut map) = (Grades::new(8_000), HashMap::new());
    let mut dice = 7u64;
    for step in 0..200_000u64 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (number, grade) = ((dice >> 33) % 10_000, (dice >> 20) as u32 % 50);
        match grade {
            0..5 => {
                grades.remove(key(number));
                map.remove(&number);
            }
            5 if step % 50_000 > 49_900 => {
                grades.clear();
                map.clear();
            }
            _ => {
                grades.put(key(number), &rates(grade));
                map.insert(number, rates(grade));
            }
        }
        for number in [number, (dice >> 40) % 10_000] {
            let found = grades.find(key(number));
            assert!(found.is_none() || found == map.get(&number), "{number}");
        }
    }
    let found = map.iter().filter(|(number, rates)| grades.find(key(**number)) == Some(rates)).count();
    assert!(found * 100 > map.len() * 99, "{found} of {} are at hand", map.len());
    grades.clear();
    assert!(map.keys().all(|number| grades.find(key(*number)).is_none()));
}

#[test]
fn as_many_as_there_is_room_for_are_nearly_all_at_hand() {
    let grades = Grades::new(1 << 17);
    (0..100_000).for_each(|number| grades.put(key(number), &rates(1)));
    let found = (0..100_000).filter(|number| grades.find(key(*number)).is_some()).count();
    assert!(found > 99_500, "{found}");
    assert!((100_000..200_000).all(|number| grades.find(key(number)).is_none()), "nobody else is");
}

#[test]
fn in_a_full_line_everybody_keeps_its_place() {
    let grades = Grades::new(1);
    let known = |numbers: std::ops::Range<u64>| numbers.filter(|n| grades.find(key(*n)).is_some()).count();
    (0..20).for_each(|number| grades.put(key(number), &rates(1)));
    assert_eq!((known(0..8), known(8..20)), (8, 0));
    grades.remove(key(3));
    grades.put(key(15), &rates(2));
    assert_eq!((known(0..8), grades.find(key(15))), (7, Some(&rates(2))));
}

/// There are 1,023 of them. Whoever gets another one then is no longer there with its former one.
#[test]
fn where_the_grades_are_used_up_those_that_there_are_remain() {
    let grades = Grades::new(4_000);
    (0..1_023).for_each(|number| grades.put(key(number.into()), &rates(number)));
    for number in 1_023..1_100 {
        grades.put(key(number.into()), &rates(number));
        assert_eq!(grades.find(key(number.into())), None);
    }
    grades.put(key(5), &rates(1_023));
    assert_eq!(grades.find(key(5)), None);
    grades.put(key(5), &rates(1_022));
    assert_eq!(grades.find(key(5)), Some(&rates(1_022)));
    assert!((6..1_023).all(|number| grades.find(key(number.into())) == Some(&rates(number))));
}

/// A word of 0 is nobody's, also where the key's part of it is 0.
#[test]
fn an_empty_place_is_nobody_s() {
    let (grades, nought) = (Grades::new(100), Key::new(0xFFFF << 48, 7));
    assert_eq!(grades.find(nought), None);
    grades.remove(nought);
    grades.put(nought, &rates(9));
    assert_eq!(grades.find(nought), Some(&rates(9)));
    grades.remove(nought);
    assert_eq!(grades.find(nought), None);
}

#[test]
fn without_room_nobody_is_there() {
    let grades = Grades::new(0);
    grades.put(key(1), &rates(1));
    grades.remove(key(1));
    grades.clear();
    assert_eq!(grades.find(key(1)), None);
}
