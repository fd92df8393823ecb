use super::*;

fn split(from: i64, through: i64, at: &[i64]) -> Vec<(i64, i64)> {
    let at = at.iter().map(|at| Offset(*at)).collect();
    ranges(Offset(from), Offset(through), &at)
        .iter()
        .map(|range| (range.start.0, range.end.0))
        .collect()
}

#[test]
fn a_rebuilt_range_is_divided_where_a_batch_run_may_cut() {
    assert_eq!(split(10, 50, &[]), [(10, 50)]);
    assert_eq!(split(10, 50, &[5, 10, 20, 40, 50, 60]), [(10, 20), (20, 40), (40, 50)]);
    assert_eq!(split(10, 10, &[10]), []);
}
