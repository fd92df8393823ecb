//! The master dataset as it lies in the object store, read without any service.

use std::collections::BTreeMap;

use anabranch::platform::Platform;
use anabranch_dataset::{Claim, MasterDataset, Snapshot, read_columns};
use anabranch_model::{Offset, PartitionId, columns};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt;

use crate::runtime::block_on;
use crate::site::Site;

/// One landed row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub partition: i32,
    pub offset: i64,
    /// Bytes and reason, if it is a dead letter.
    pub dead: Option<(Vec<u8>, String)>,
}

/// Everything that was landed of a source and has not expired.
#[derive(Clone, Debug)]
pub struct Landed {
    pub snapshot: Snapshot,
    /// Sorted by partition and offset.
    pub rows: Vec<Row>,
}

async fn open(site: &Site, table: &str) -> MasterDataset {
    let platform = Platform::load(site.path()).expect("the folder is in order");
    let source = platform.source(table).expect("the table is declared");
    let store = platform.store().await.expect("the store can be opened");
    let dataset = MasterDataset::open_existing(&store, source)
        .await
        .expect("the table can be read");
    dataset.expect("the table was created")
}

/// Takes partitions over, as a speed process does that the running one knows nothing of.
///
/// # Panics
/// When they cannot be claimed.
pub fn claim(site: &Site, table: &str, partitions: &[PartitionId]) {
    let claims: Vec<Claim> = partitions
        .iter()
        .map(|partition| Claim {
            partition: *partition,
            start: Offset::default(),
        })
        .collect();
    let claimed = block_on(async { open(site, table).await.claim(&claims, "end-to-end test").await });
    assert_eq!(claimed.expect("partitions can be claimed").len(), partitions.len());
}

/// Claims a partition over and over until the table has this version, as quarrelling workers would.
///
/// # Panics
/// When it cannot be claimed.
pub fn raise_version(site: &Site, table: &str, version: u64) {
    let claim = Claim {
        partition: PartitionId(0),
        start: Offset::default(),
    };
    block_on(async {
        let dataset = open(site, table).await;
        while dataset.cut().await.expect("the table has a version").version < Some(version) {
            let claimed = dataset.claim(std::slice::from_ref(&claim), "end-to-end test").await;
            claimed.expect("a partition can be claimed");
        }
    });
}

/// Reads all landed rows of a table.
///
/// # Panics
/// When there is no master dataset, or it cannot be read.
pub fn read(site: &Site, table: &str) -> Landed {
    block_on(async {
        let dataset = open(site, table).await;
        let store = dataset.store().clone();
        let snapshot = dataset.snapshot(None).await.expect("the table has a version");
        let wanted = [columns::PARTITION, columns::OFFSET, columns::RAW, columns::REASON];
        let schema = dataset.file_schema();
        let indices: Vec<usize> = wanted
            .iter()
            .map(|name| schema.index_of(name).expect("it is a landed column"))
            .collect();
        let schema = std::sync::Arc::new(schema.project(&indices).expect("the columns are there"));
        let mut rows = Vec::new();
        for file in &snapshot.files {
            let batches: Vec<_> = read_columns(&store, file, &schema)
                .try_collect()
                .await
                .expect("a landed file can be read");
            for batch in batches {
                let column = |name: &str| batch.column_by_name(name).expect("it was asked for");
                let partitions = column(columns::PARTITION).as_primitive::<Int32Type>();
                let offsets = column(columns::OFFSET).as_primitive::<Int64Type>();
                let (raw, reasons) = (
                    column(columns::RAW).as_binary::<i32>(),
                    column(columns::REASON).as_string::<i32>(),
                );
                let expired = |row: &usize| {
                    let since = snapshot.notes.since.get(PartitionId(partitions.value(*row)));
                    since.is_some_and(|since| offsets.value(*row) < since.0)
                };
                rows.extend((0..batch.num_rows()).filter(|row| !expired(row)).map(|row| {
                    Row {
                        partition: partitions.value(row),
                        offset: offsets.value(row),
                        dead: file
                            .dead
                            .then(|| (raw.value(row).to_vec(), reasons.value(row).to_owned())),
                    }
                }));
            }
        }
        rows.sort();
        Landed { snapshot, rows }
    })
}

impl Landed {
    /// Rows that are no dead letters, and dead letters.
    pub fn counts(&self) -> (usize, usize) {
        let dead = self.rows.iter().filter(|row| row.dead.is_some()).count();
        (self.rows.len() - dead, dead)
    }

    /// Offset of each partition before which everything has expired.
    fn since(&self, partition: PartitionId) -> i64 {
        self.snapshot.notes.since.get(partition).map_or(0, |since| since.0)
    }

    /// How many offsets lie between what has expired and the recorded next offsets.
    pub fn positions(&self) -> i64 {
        let next = self.snapshot.next.iter();
        next.map(|(partition, next)| next.0 - self.since(partition)).sum()
    }

    /// Every partition's rows are its offsets from 0, or from where they have not expired, to the recorded next one, each
    /// exactly once.
    ///
    /// # Panics
    /// When an offset is missing or there twice.
    #[track_caller]
    pub fn assert_each_offset_once(&self) {
        let mut found: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for row in &self.rows {
            found.entry(row.partition).or_default().push(row.offset);
        }
        for (partition, next) in self.snapshot.next.iter() {
            let offsets = found.remove(&partition.0).unwrap_or_default();
            let expected: Vec<i64> = (self.since(partition)..next.0).collect();
            let wrong = offsets
                .iter()
                .zip(&expected)
                .find(|(found, expected)| found != expected);
            assert!(
                wrong.is_none(),
                "partition {partition}: an offset is missing or there twice around {wrong:?}"
            );
            assert_eq!(
                offsets.len(),
                expected.len(),
                "partition {partition}: rows beyond or short of the recorded next offset"
            );
        }
        assert!(
            found.is_empty(),
            "rows of partitions without a recorded next offset: {:?}",
            found.keys()
        );
    }
}
