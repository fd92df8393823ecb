use super::*;

const P: PartitionId = PartitionId(3);

#[test]
fn claims_that_are_taken_away_again_and_again_become_rare() {
    let (mut losses, mut now) = (Losses::default(), Instant::now());
    let mut waits = Vec::new();
    for _ in 0..9 {
        let wait = losses.lost(P, now);
        waits.push(wait.as_millis());
        now += wait;
    }
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000, 8_000]);
    assert_eq!(
        losses.lost(PartitionId(4), now),
        FIRST_WAIT,
        "each partition has its own"
    );
}

#[test]
fn a_claim_that_held_long_counts_as_a_first_one() {
    let (mut losses, now) = (Losses::default(), Instant::now());
    losses.lost(P, now);
    losses.lost(P, now);
    let short = FORGOTTEN_AFTER - Duration::from_millis(1);
    assert_eq!(losses.lost(P, now + short), FIRST_WAIT * 4);
    assert_eq!(losses.lost(P, now + short + FORGOTTEN_AFTER), FIRST_WAIT);
}

#[test]
fn a_claim_hears_that_it_is_given_up() {
    let wanted = Wanted::new(P);
    let under_way = wanted.clone();
    assert!(under_way.is_wanted());
    wanted.give_up();
    assert!(!under_way.is_wanted());
}
