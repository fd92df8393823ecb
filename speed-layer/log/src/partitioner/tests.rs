use super::{RoundRobin, murmur2, partition_of_key};

/// The vectors of Kafka's own `UtilsTest.testMurmur2`.
#[test]
fn murmur2_equals_kafkas() {
    let cases: [(&[u8], i32); 6] = [
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        (b"abc", 479_470_107),
    ];
    for (key, expected) in cases {
        assert_eq!(murmur2(key) as i32, expected, "{}", String::from_utf8_lossy(key));
    }
}

#[test]
fn keys_spread_over_all_partitions() {
    let mut counts = [0; 7];
    for n in 0..7_000 {
        counts[partition_of_key(format!("key-{n}").as_bytes(), 7).0 as usize] += 1;
    }
    assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
}

#[test]
fn round_robin_visits_each_partition_in_turn() {
    let turn = RoundRobin::default();
    let visited: Vec<i32> = (0..5).map(|_| turn.next(3).0).collect();
    assert_eq!(visited, [0, 1, 2, 0, 1]);
}
