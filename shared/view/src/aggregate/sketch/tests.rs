use std::collections::BTreeMap;

use super::*;

/// xorshift64*: as good as hashes.
fn hashes(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    })
}

fn sketch_of(hashes: impl Iterator<Item = u64>) -> Sketch {
    let mut sketch = Sketch::default();
    let mut heap_bytes = 0;
    for hash in hashes {
        heap_bytes += sketch.raise(Entry::of_hash(hash));
        assert_eq!(heap_bytes, sketch.heap_bytes() as isize);
    }
    sketch
}

fn registers(sketch: &Sketch) -> BTreeMap<usize, u8> {
    let mut registers = BTreeMap::new();
    sketch.for_each(|entry| assert_eq!(registers.insert(entry.index(), entry.rank()), None));
    registers
}

fn encoded(sketch: &Sketch) -> Vec<u8> {
    let mut bytes = vec![];
    sketch.encode(&mut vec![], &mut bytes);
    bytes
}

const SIZES: [usize; 12] = [0, 1, 5, 6, 13, 200, 1_500, 1_600, 4_000, 5_000, 9_000, 200_000];

#[test]
fn every_form_keeps_the_registers_of_a_plain_sketch() {
    for size in SIZES {
        let mut plain = BTreeMap::new();
        for hash in hashes(3).take(size) {
            let rank = ((hash >> 14) | 1 << 50).trailing_zeros() as u8 + 1;
            let register = plain.entry((hash % 16_384) as usize).or_insert(0);
            *register = rank.max(*register);
        }
        let sketch = sketch_of(hashes(3).take(size));
        assert_eq!(registers(&sketch), plain, "{size} hashes");
    }
}

#[test]
fn what_is_decoded_is_what_was_encoded_and_counts_the_same() {
    for size in SIZES {
        let sketch = sketch_of(hashes(5).take(size));
        let bytes = encoded(&sketch);
        let mut decoded = Sketch::default();
        let added = decoded.merge(&bytes).unwrap();
        assert_eq!(added, decoded.heap_bytes() as isize);
        assert_eq!(registers(&decoded), registers(&sketch), "{size} hashes");
        assert_eq!(encoded(&decoded), bytes, "{size} hashes");
        assert_eq!(count_encoded(&bytes).unwrap(), sketch.count());
        let error = sketch.count() as f64 / size.max(1) as f64;
        assert!(
            size == 0 || (0.96..1.04).contains(&error),
            "{size} hashes count {}",
            sketch.count()
        );
    }
}

#[test]
fn merging_gives_the_registers_of_all_values_whatever_the_forms() {
    for left in SIZES {
        for right in SIZES {
            let all = hashes(7).take(left + right);
            let mut merged = sketch_of(hashes(7).take(left));
            // Some values in both.
            let other = sketch_of(hashes(7).take(left + right).skip(left / 2));
            merged.merge(&encoded(&other)).unwrap();
            let whole = sketch_of(all);
            assert_eq!(encoded(&merged), encoded(&whole), "{left} and {right} hashes");
        }
    }
}

#[test]
fn the_encoding_does_not_depend_on_the_order_of_values() {
    for size in SIZES {
        let mut values: Vec<u64> = hashes(9).take(size).collect();
        let forwards = encoded(&sketch_of(values.iter().copied()));
        values.reverse();
        assert_eq!(encoded(&sketch_of(values.into_iter())), forwards);
    }
}

#[test]
fn small_sketches_are_small() {
    let bytes = |size| encoded(&sketch_of(hashes(11).take(size))).len();
    assert_eq!(bytes(0), 0);
    assert!(bytes(1) <= 4 && bytes(5) <= 20);
    assert!(bytes(300) < 750, "{}", bytes(300));
    assert!(bytes(4_000) < 6_000, "{}", bytes(4_000));
    assert_eq!(bytes(200_000), REGISTERS);
    assert_eq!(size_of::<Sketch>(), 24);
    assert_eq!(sketch_of(hashes(11).take(5)).heap_bytes(), 0);
}

#[test]
fn entries_that_come_around_the_end_of_a_table_are_put_in_order() {
    // All but the first belong to the last places of the table.
    let indices = [0, 16_000, 16_100, 16_200, 16_300, 16_383, 1, 16_380];
    let mut sketch = Sketch::default();
    for index in indices {
        sketch.raise(Entry::new(index, 2));
    }
    assert!(matches!(sketch, Sketch::Table { .. }));
    let mut decoded = vec![];
    decode(&encoded(&sketch), |entry| decoded.push(entry.index())).unwrap();
    assert_eq!(decoded, [0, 1, 16_000, 16_100, 16_200, 16_300, 16_380, 16_383]);
}

#[test]
fn what_no_sketch_encodes_to_is_refused() {
    // A number without an end, one too long, a value without its byte, one too large, and a register too far.
    let malformed: [&[u8]; 6] = [
        &[0x80],
        &[0x80, 0x80, 0x80, 0x01],
        &[3],
        &[3, 52],
        &[3, 0],
        &[0xfc, 0xff, 0x07, 0],
    ];
    for bytes in malformed {
        assert!(count_encoded(bytes).is_err(), "{bytes:?}");
        assert!(Sketch::default().merge(bytes).is_err(), "{bytes:?}");
    }
    let mut registers = vec![0; REGISTERS];
    assert_eq!(count_encoded(&registers).unwrap(), 0);
    registers[7] = 52;
    assert!(count_encoded(&registers).is_err());
    assert!(Sketch::default().merge(&registers).is_err());
}
