use super::*;

#[test]
fn the_same_words_are_said_again_after_a_pause_with_how_often_they_were_kept_back() {
    let (seldom, start) = (Seldom::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(seldom.due("away", at(0)), Some(0));
    assert_eq!(seldom.due("away", at(1)), None);
    assert_eq!(seldom.due("full", at(1)), Some(0));
    assert_eq!(seldom.due("away", at(9)), None);
    assert_eq!(seldom.due("away", at(10)), Some(2));
    assert_eq!(seldom.due("away", at(11)), None);
    assert_eq!(seldom.due("away", at(30)), Some(1));
}

#[test]
fn what_is_remembered_is_bounded() {
    let (seldom, now) = (Seldom::default(), Instant::now());
    for number in 0..10_000 {
        assert_eq!(seldom.due(&number.to_string(), now), Some(0));
    }
    assert!(seldom.0.lock().expect("nobody panicked").len() <= REMEMBERED);
}
