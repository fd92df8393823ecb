use super::*;

fn route(grouping: &Grouping<Vec<u64>>, value: Vec<u64>, tasks: usize, turn: &mut usize) -> Route<Vec<u64>> {
    grouping.0.route(value, tasks, 1, turn).unwrap()
}

#[test]
fn shuffle_takes_turns() {
    let mut turn = 1;
    let tasks: Vec<_> = (0..5)
        .map(|i| route(&Grouping::shuffle(), vec![i], 3, &mut turn))
        .collect();
    let expected: Vec<_> = [1, 2, 0, 1, 2]
        .iter()
        .zip(0..)
        .map(|(task, i)| Route::One(*task, vec![i]))
        .collect();
    assert_eq!(tasks, expected);
}

#[test]
fn fields_sends_equal_keys_to_one_task() {
    let grouping = Grouping::fields(|v: &Vec<u64>| v[0]);
    for key in 0..20 {
        assert_eq!(
            route(&grouping, vec![key, 9], 3, &mut 0),
            Route::One((key % 3) as usize, vec![key, 9])
        );
    }
}

#[test]
fn split_divides_one_tuple_among_all_tasks() {
    let grouping = Grouping::split(|rows: Vec<u64>, n| {
        let mut parts = vec![Vec::new(); n];
        rows.into_iter().for_each(|row| parts[row as usize % n].push(row));
        Ok(parts)
    });
    assert_eq!(
        route(&grouping, vec![0, 1, 3, 4, 6], 3, &mut 0),
        Route::Parts(vec![vec![0, 3, 6], vec![1, 4], vec![]]),
        "the last task gets its part although it is empty"
    );
}

#[test]
fn all_global_and_local() {
    assert_eq!(route(&Grouping::all(), vec![1], 3, &mut 0), Route::All(vec![1]));
    assert_eq!(route(&Grouping::global(), vec![1], 3, &mut 0), Route::One(0, vec![1]));
    assert_eq!(
        route(&Grouping::local_or_shuffle(), vec![1], 3, &mut 0),
        Route::One(1, vec![1])
    );
    assert_eq!(
        route(&Grouping::local_or_shuffle(), vec![1], 1, &mut 0),
        Route::One(0, vec![1])
    );
}
