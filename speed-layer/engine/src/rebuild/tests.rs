use object_store::path::Path;

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

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

fn file(name: &str, dead: bool, ranges: &[(i32, i64, i64)]) -> DataFile {
    DataFile {
        path: Path::from(name),
        bytes: 1,
        rows: 1,
        dead,
        ranges: ranges
            .iter()
            .map(|(p, start, end)| (PartitionId(*p), range(*start, *end)))
            .collect(),
        times: BTreeMap::new(),
    }
}

fn plan(partition: i32, views: &[&[OffsetRange]]) -> Plan {
    Plan {
        partition: PartitionId(partition),
        views: views.iter().map(|ranges| ranges.to_vec()).enumerate().collect(),
    }
}

#[test]
fn only_files_that_reach_into_what_is_wanted_are_read() {
    let files = vec![
        file("before", false, &[(0, 0, 10), (1, 0, 90)]),
        file("straddles", false, &[(0, 5, 15)]),
        file("unknown", false, &[]),
        file("dead", true, &[(0, 10, 20)]),
        file("inside", false, &[(0, 20, 30), (7, 0, 5)]),
        file("behind", false, &[(0, 50, 60)]),
        file("elsewhere", false, &[(3, 20, 30)]),
    ];
    let names = |plans: &[Plan]| -> Vec<String> {
        let files = files_for(plans, files.clone());
        files.iter().map(|file| file.path.to_string()).collect()
    };
    let one = plan(0, &[&[range(10, 20), range(20, 50)], &[range(30, 50)]]);
    assert_eq!(names(std::slice::from_ref(&one)), ["straddles", "unknown", "inside"]);
    assert_eq!(
        names(&[one, plan(3, &[&[range(0, 21)]])]),
        ["straddles", "unknown", "inside", "elsewhere"]
    );
    assert!(
        names(&[plan(0, &[&[], &[]])]).is_empty(),
        "nothing to fold, nothing to read"
    );
}
