use super::*;

fn state() -> TableState {
    TableState::new("clicks", &Path::from("sources/clicks"), 0)
}

fn file(name: &str) -> DataFile {
    let path = Path::from("sources/clicks/_dead=false").join(name);
    let range = OffsetRange::new(Offset(4), Offset(44));
    DataFile {
        path,
        bytes: 10,
        rows: 3,
        dead: false,
        ranges: BTreeMap::from([(PartitionId(1), range)]),
        times: BTreeMap::from([(PartitionId(1), (-5, 7).into())]),
    }
}

fn commit(actions: Vec<Value>) -> String {
    Commit {
        id: Uuid::now_v7(),
        operation: "TEST",
        parameters: json!({}),
        actions,
    }
    .encode(0)
}

#[test]
fn marks_are_told_from_other_transactions() {
    for mark in Mark::ALL {
        let action = mark.action("clicks", PartitionId(12), 7, 0);
        let app_id = action["txn"]["appId"].as_str().unwrap();
        assert_eq!(Mark::parse(app_id, "clicks"), Some((mark, PartitionId(12))));
        assert_eq!(Mark::parse(app_id, "click"), None);
        assert_eq!(Mark::parse(app_id, "clicks2"), None);
    }
    for foreign in [
        "spark-job-1",
        "anabranch/next/clicks",
        "anabranch/else/clicks/1",
        "anabranch/next/clicks/x",
    ] {
        assert_eq!(Mark::parse(foreign, "clicks"), None, "{foreign}");
    }
}

#[test]
fn a_commit_reads_back_as_what_it_says() {
    let mut state = state();
    let lines = commit(vec![
        add_action("_dead=false/a.parquet", &file("a.parquet"), Change::Rows, 0),
        add_action(
            "_dead=true/b.parquet",
            &DataFile {
                dead: true,
                ..file("b.parquet")
            },
            Change::Rows,
            0,
        ),
        Mark::Next.action("clicks", PartitionId(1), 44, 0),
        Mark::Start.action("clicks", PartitionId(1), 4, 0),
        Mark::Epoch.action("clicks", PartitionId(1), 2, 0),
    ]);
    state.apply_commit(1, lines.as_bytes()).unwrap();
    let snapshot = state.snapshot();
    assert_eq!(snapshot.version, 1);
    assert_eq!(snapshot.next.get(PartitionId(1)), Some(Offset(44)));
    assert_eq!(snapshot.starts.get(PartitionId(1)), Some(Offset(4)));
    assert_eq!(snapshot.epochs[&PartitionId(1)], 2);
    assert_eq!(snapshot.files[0], file("a.parquet"));
    assert_eq!((snapshot.files[1].dead, snapshot.files.len()), (true, 2));
}

#[test]
fn files_that_another_tool_rewrote_are_replaced() {
    let mut state = state();
    state
        .apply_commit(
            1,
            commit(vec![add_action(
                "_dead=false/a.parquet",
                &file("a.parquet"),
                Change::Rows,
                0,
            )])
            .as_bytes(),
        )
        .unwrap();
    // As deltalake's compaction writes it: escaped path, unknown fields, several line ends.
    let rewrite = r#"
        {"remove":{"path":"_dead=false/a.parquet","dataChange":false,"deletionTimestamp":1}}

        {"add":{"path":"_dead%3Dfalse/part%20b.parquet","partitionValues":{"_dead":"false"},"size":5,"modificationTime":1,
    "#;
    let rewrite = rewrite.trim_end().to_owned()
        + r#""dataChange":false,"stats":"{\"numRecords\":3,\"minValues\":{}}","tags":null}}"#
        + "\n";
    state.apply_commit(2, rewrite.as_bytes()).unwrap();
    let files = state.snapshot().files;
    assert_eq!(
        files.iter().map(|f| (f.path.as_ref(), f.rows)).collect::<Vec<_>>(),
        [("sources/clicks/_dead=false/part b.parquet", 3)]
    );
    assert!(files[0].ranges.is_empty(), "nobody says where its rows are from");
}

#[test]
fn a_merged_file_takes_the_place_of_others() {
    let mut state = state();
    let (a, b, merged) = (file("a.parquet"), file("b.parquet"), file("c.parquet"));
    let adds = [&a, &b].map(|file| add_action(&relative(file), file, Change::Rows, 0));
    state.apply_commit(1, commit(adds.to_vec()).as_bytes()).unwrap();
    let rewrite = commit(vec![
        remove_action(&relative(&a), &a, Change::Layout, 70),
        remove_action(&relative(&b), &b, Change::Layout, 70),
        add_action(&relative(&merged), &merged, Change::Layout, 70),
    ]);
    assert!(rewrite.contains("\"isBlindAppend\":false") && !rewrite.contains("\"dataChange\":true"));
    state.apply_commit(2, rewrite.as_bytes()).unwrap();
    assert_eq!(state.snapshot().files, std::slice::from_ref(&merged));
    assert!(state.holds(&merged) && !state.holds(&a) && !state.names(&b.path));
    let tombstone = Tombstone { version: 2, at_ms: 70 };
    assert_eq!(state.tombstone(&a.path), Some(tombstone));
    assert_eq!(state.tombstone(&merged.path), None);
    state.forget_removed(|path| *path == a.path);
    assert_eq!(
        (state.tombstone(&a.path), state.tombstone(&b.path)),
        (None, Some(tombstone))
    );
}

fn relative(file: &DataFile) -> String {
    format!("_dead=false/{}", file.path.filename().unwrap())
}

#[test]
fn a_file_whose_rows_are_unknown_is_corrupt() {
    let mut add = add_action("_dead=false/a.parquet", &file("a.parquet"), Change::Rows, 0);
    add["add"].as_object_mut().unwrap().remove("stats");
    let error = state().apply_commit(1, commit(vec![add]).as_bytes()).unwrap_err();
    assert_eq!(error.kind(), anabranch_model::ErrorKind::Data);
    assert!(error.to_string().contains("a.parquet"), "{error}");
}

#[test]
fn a_deletion_vector_is_not_overlooked() {
    let mut add = add_action("_dead=false/a.parquet", &file("a.parquet"), Change::Rows, 0);
    add["add"]["deletionVector"] = json!({"storageType": "u"});
    assert!(state().apply_commit(1, commit(vec![add]).as_bytes()).is_err());
}

#[test]
fn lines_that_are_not_json_are_corrupt() {
    let error = state().apply_commit(1, b"{\"add\":").unwrap_err();
    assert!(error.to_string().contains("version 1"), "{error}");
}

#[test]
fn the_latest_commits_are_remembered() {
    let mut state = state();
    let ids: Vec<Uuid> = (0..REMEMBERED_COMMITS as u64 + 10)
        .map(|version| {
            let commit = Commit {
                id: Uuid::now_v7(),
                operation: "TEST",
                parameters: json!({}),
                actions: vec![],
            };
            state.apply_commit(version + 1, commit.encode(0).as_bytes()).unwrap();
            commit.id
        })
        .collect();
    assert_eq!(state.find_commit(ids[9]), None);
    assert_eq!(state.find_commit(ids[10]), Some(11));
    assert_eq!(state.find_commit(*ids.last().unwrap()), Some(ids.len() as u64));
    assert_eq!(state.find_commit(Uuid::now_v7()), None);
}
