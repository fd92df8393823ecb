use super::*;

#[test]
fn a_burst_then_the_average() {
    let limiter = Limiter::new(2.0, 3.0);
    let start = Instant::now();
    for _ in 0..3 {
        assert_eq!(limiter.take(&"ann", start), Ok(()));
    }
    assert_eq!(limiter.take(&"ann", start), Err(Duration::from_millis(500)));
    assert_eq!(limiter.take(&"bob", start), Ok(()), "others are not held up");
    let later = start + Duration::from_millis(500);
    assert_eq!(limiter.take(&"ann", later), Ok(()));
    assert!(limiter.take(&"ann", later).is_err());
    let much_later = start + Duration::from_secs(3600);
    for _ in 0..3 {
        assert_eq!(limiter.take(&"ann", much_later), Ok(()));
    }
    assert!(limiter.take(&"ann", much_later).is_err(), "unused time is not saved up");
}

#[test]
fn memory_is_bounded() {
    let limiter = Limiter::new(0.001, 2.0);
    let start = Instant::now();
    for address in 0..MOST * 2 + 10 {
        let _ = limiter.take(&address, start);
    }
    assert!(limiter.buckets.lock().len() <= MOST);
}
