use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field};

use super::*;

fn batch(values: std::ops::Range<i64>) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from_iter_values(values))]).unwrap()
}

#[test]
fn batches_come_back_in_order_and_by_index() {
    let parent = tempfile::tempdir().unwrap();
    let area = SpillArea::open(parent.path()).unwrap();
    let batches = [batch(0..3), batch(0..0), batch(7..2000)];
    let file = area.write(&batches[0].schema(), &batches).unwrap();
    assert_eq!(file.reader().unwrap().map(Result::unwrap).collect::<Vec<_>>(), batches);
    assert_eq!(file.read(2).unwrap(), batches[2]);
    assert_eq!(file.read(1).unwrap().num_rows(), 0);
    assert!(file.read(3).is_err());
    assert!(file.file_bytes > 0 && file.batch_bytes >= 2000 * 8);
}

#[test]
fn abandoned_folders_go_and_living_ones_stay() {
    let parent = tempfile::tempdir().unwrap();
    let living = SpillArea::open(parent.path()).unwrap();
    let kept = living.write(&batch(0..1).schema(), &[batch(0..1)]).unwrap();
    // What a killed process leaves: a folder with a lock file that nobody holds.
    let abandoned = parent.path().join("anabranch-spill-dead");
    std::fs::create_dir(&abandoned).unwrap();
    std::fs::write(abandoned.join("lock"), "").unwrap();
    std::fs::write(abandoned.join("00000000.arrow"), "left over").unwrap();
    // Not ours to remove.
    std::fs::create_dir(parent.path().join("somebody-elses")).unwrap();

    let second = SpillArea::open(parent.path()).unwrap();
    assert!(!abandoned.exists());
    assert!(parent.path().join("somebody-elses").exists());
    assert_eq!(kept.read(0).unwrap(), batch(0..1));
    drop((second, kept, living));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
}
