use super::*;

fn lane(begin: i64, ends: &[i64]) -> Lane {
    let mut lane = Lane::new(Offset(begin));
    for end in ends {
        let range = OffsetRange::new(lane.end(), Offset(*end));
        lane.push(Run::new(range, None)).unwrap();
    }
    lane
}

fn ends(lane: &Lane) -> Vec<i64> {
    lane.runs().iter().map(|run| run.range.end.0).collect()
}

#[test]
fn a_lane_has_no_gaps() {
    let mut lane = lane(10, &[20]);
    let gap = Run::new(OffsetRange::new(Offset(25), Offset(30)), None);
    assert_eq!(lane.push(gap), Err(Offset(20)));
    assert_eq!(ends(&lane), [20]);
}

#[test]
fn a_cut_is_located_at_boundaries_only() {
    let lane = lane(10, &[20, 30]);
    assert_eq!(lane.locate(Offset(9)), Held::TooOld);
    assert_eq!(lane.locate(Offset(10)), Held::From { first: 0 });
    assert_eq!(lane.locate(Offset(15)), Held::Straddles);
    assert_eq!(lane.locate(Offset(20)), Held::From { first: 1 });
    assert_eq!(lane.locate(Offset(30)), Held::From { first: 2 });
    assert_eq!(lane.locate(Offset(31)), Held::Ahead);
}

#[test]
fn an_empty_lane_holds_exactly_its_begin() {
    let lane = lane(7, &[]);
    assert_eq!(lane.locate(Offset(7)), Held::From { first: 0 });
    assert_eq!(lane.locate(Offset(8)), Held::Ahead);
    assert!(lane.between(Offset(7), Offset(7)).unwrap().is_empty());
}

#[test]
fn the_common_end_is_a_boundary_of_every_lane() {
    let (a, b, c) = (lane(0, &[10, 20, 30]), lane(0, &[10, 30]), lane(0, &[10, 20]));
    assert_eq!(common_end([&a, &b].into_iter()), Some(Offset(30)));
    assert_eq!(common_end([&a, &c].into_iter()), Some(Offset(20)));
    assert_eq!(
        common_end([&a, &b, &c].into_iter()),
        Some(Offset(10)),
        "20 lies inside a run of b"
    );
    assert_eq!(common_end([].into_iter()), None);
}

#[test]
fn merging_replaces_only_what_is_still_there() {
    let mut lane = lane(0, &[10, 20, 30]);
    let old = lane.runs()[..2].to_vec();
    let merged = || Run::new(OffsetRange::new(Offset(0), Offset(20)), None);
    assert!(lane.replace(&old, merged()));
    assert_eq!(ends(&lane), [20, 30]);
    assert!(!lane.replace(&old, merged()), "these runs have been merged already");
    assert_eq!(ends(&lane), [20, 30]);
}

#[test]
fn dropping_keeps_a_run_that_straddles_the_cut() {
    let mut lane = lane(0, &[10, 30]);
    assert_eq!(lane.drop_below(Offset(20)), 1);
    assert_eq!((lane.begin(), ends(&lane)), (Offset(10), vec![30]));
    assert_eq!(lane.drop_below(Offset(30)), 1);
    assert_eq!((lane.begin(), lane.end()), (Offset(30), Offset(30)));
}

#[test]
fn a_rebuilt_base_takes_the_place_of_what_lies_before_it() {
    let mut lane = lane(5, &[10, 20, 30]);
    let base = vec![Arc::new(Run::new(OffsetRange::new(Offset(0), Offset(20)), None))];
    lane.rebase(Offset(0), Offset(20), base);
    assert_eq!((lane.begin(), ends(&lane)), (Offset(0), vec![20, 30]));
}

fn pages() -> View {
    let sql = "CREATE TABLE clicks (page TEXT, n BIGINT) WITH (connector = 'log', topic = 'clicks', format = 'json');
               CREATE MATERIALIZED VIEW pages AS SELECT page, sum(n) AS total FROM clicks GROUP BY page;";
    let catalog = anabranch_catalog::Catalog::parse(sql).unwrap();
    View::compile(&catalog.views["pages"]).unwrap()
}

/// A run of `groups` pages as a bolt writes it: in order when it is large.
fn run_of(view: &View, groups: i64) -> Run {
    let names: Vec<String> = (0..groups).map(|i| format!("p{:05}", i * 7919 % groups)).collect();
    let source = view.source().event_schema();
    let columns = source.fields().iter().map(|field| -> arrow::array::ArrayRef {
        match field.name().as_str() {
            "page" => Arc::new(arrow::array::StringArray::from_iter_values(&names)),
            "n" => Arc::new(arrow::array::Int64Array::from_iter_values(0..groups)),
            _ => arrow::array::new_null_array(field.data_type(), names.len()),
        }
    });
    let fields = source.fields().iter();
    let fields: Vec<_> = fields.map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let events = RecordBatch::try_new(schema, columns.collect()).unwrap();
    let mut aggregator = view.aggregator().unwrap();
    aggregator.fold(&view.prepare(&events).unwrap()).unwrap();
    let state = emit_run(&mut aggregator).unwrap();
    Run::new(OffsetRange::new(Offset(0), Offset(groups)), Some(state))
}

#[test]
fn a_run_gives_the_same_groups_however_they_are_found() {
    let view = pages();
    for groups in [1, 100, 1_000, INDEXED_GROUPS as i64 + 5] {
        let run = run_of(&view, groups);
        let middle = groups / 2;
        let filters = [
            format!("page = 'p{middle:05}'"),
            format!("page IN ('p00000', 'p{middle:05}', 'nobody')"),
            format!("page > 'p{middle:05}'"),
            "page = 'nobody'".to_owned(),
            "page LIKE '%1'".to_owned(),
        ];
        let looks = LOOKED_THROUGH + run.rows() / GROUPS_OF_A_LOOK;
        for sql in &filters {
            let filter = view.key_filter(sql).unwrap();
            let plain = filter.apply(run.state.as_ref().unwrap()).unwrap();
            let plain = view.sort_state(&plain).unwrap();
            for _ in 0..looks {
                let found = run.select(&view, Some(&filter)).unwrap();
                let found = arrow::compute::concat_batches(&view.state_schema(), &found).unwrap();
                assert_eq!(view.sort_state(&found).unwrap(), plain, "{sql} of {groups}");
            }
        }
        for sql in &filters {
            if let Some(ranges) = view.key_filter(sql).unwrap().ranges() {
                let left = run.groups_to_look_at(ranges);
                assert_eq!(left, 0, "{sql}: what is asked for by key again and again is looked up");
            }
        }
    }
}

#[test]
fn what_finds_groups_counts_as_bytes_of_the_run() {
    let view = pages();
    for groups in [300, INDEXED_GROUPS as i64 + 5] {
        let mut lane = Lane::new(Offset(0));
        lane.push(run_of(&view, groups)).unwrap();
        let run = Arc::clone(&lane.runs()[0]);
        let select = |sql: &str| {
            let filter = view.key_filter(sql).unwrap();
            for _ in 0..LOOKED_THROUGH + run.rows() / GROUPS_OF_A_LOOK + 1 {
                run.select(&view, Some(&filter)).unwrap();
            }
        };
        let state = run.state.as_ref().unwrap().get_array_memory_size();
        assert_eq!(lane.bytes(), state, "nobody has asked yet");
        select("page = 'p00001'");
        let hashes = run.rows() * size_of::<u64>();
        assert_eq!(lane.bytes(), state + hashes, "of {groups}");
        select("page = 'p00002'");
        assert_eq!(lane.bytes(), state + hashes, "it is made once");
        select("page > 'p00001'");
        assert!(lane.bytes() > state + hashes, "of {groups}");
    }
}
