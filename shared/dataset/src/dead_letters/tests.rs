use std::collections::BTreeMap;

use arrow::array::{ArrayRef, BinaryArray, StringArray};

use super::*;
use crate::testing::{clicks, memory, rows, upload};
use crate::{Advance, Claim, Landing, MasterDataset};

/// Lands dead letters of partition 0, one per reason, from `start` on.
async fn land(dataset: &MasterDataset, start: i64, reasons: &[&str], headers: Option<ArrayRef>) {
    let end = start + reasons.len() as i64;
    let batch = rows(dataset, 0, start..end);
    let mut columns = batch.columns().to_vec();
    let mut set = |name: &str, column: ArrayRef| columns[batch.schema().index_of(name).unwrap()] = column;
    set(columns::REASON, Arc::new(StringArray::from(reasons.to_vec())));
    let raw: Vec<String> = (start..end).map(|offset| format!("bytes {offset}")).collect();
    set(columns::RAW, Arc::new(BinaryArray::from_iter_values(&raw)));
    if let Some(headers) = headers {
        set(columns::HEADERS, headers);
    }
    let batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let range = OffsetRange::new(Offset(start), Offset(end));
    let landing = Landing {
        commit_id: uuid::Uuid::now_v7(),
        files: vec![upload(dataset, &batch, true).await],
        partitions: BTreeMap::from([(PartitionId(0), Advance { range, epoch: 1 })]),
    };
    dataset.land(&landing).await.unwrap();
}

async fn dataset(store: &Store) -> MasterDataset {
    let dataset = MasterDataset::open(store, &clicks(), "a log").await.unwrap();
    let claim = Claim {
        partition: PartitionId(0),
        start: Offset(0),
    };
    dataset.claim(&[claim], "worker").await.unwrap();
    dataset
}

async fn found(dataset: &MasterDataset, which: WhichLetters) -> Vec<DeadLetter> {
    let snapshot = dataset.snapshot(None).await.unwrap();
    let found: Vec<Vec<DeadLetter>> = dead_letters(dataset.store(), &snapshot, which)
        .try_collect()
        .await
        .unwrap();
    let mut found = found.concat();
    found.sort_by_key(|letter| letter.offset);
    found
}

fn offsets(letters: &[DeadLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.offset.0).collect()
}

#[tokio::test]
async fn letters_are_found_by_place_and_reason() {
    let store = memory();
    let dataset = dataset(&store).await;
    land(&dataset, 0, &["no such field", "bad number", "bad number: x"], None).await;
    land(&dataset, 3, &["no such field"], None).await;

    let all = found(&dataset, WhichLetters::default()).await;
    assert_eq!(offsets(&all), [0, 1, 2, 3]);
    assert_eq!(all[1].reason, "bad number");
    assert_eq!(all[1].record.payload.as_deref(), Some(&b"bytes 1"[..]));
    let which = |reason: Option<&str>, offsets: Option<(i64, i64)>, partition: Option<i32>| WhichLetters {
        partition: partition.map(PartitionId),
        offsets: offsets.map(|(start, end)| OffsetRange::new(Offset(start), Offset(end))),
        reason: reason.map(str::to_owned),
        only: None,
    };
    assert_eq!(
        offsets(&found(&dataset, which(Some("number"), None, None)).await),
        [1, 2]
    );
    assert_eq!(
        offsets(&found(&dataset, which(None, Some((2, 4)), Some(0))).await),
        [2, 3]
    );
    assert_eq!(offsets(&found(&dataset, which(None, None, Some(1))).await), [0; 0]);
    let only = WhichLetters {
        only: Some(
            [(PartitionId(0), Offset(3)), (PartitionId(1), Offset(0))]
                .into_iter()
                .collect(),
        ),
        ..WhichLetters::default()
    };
    assert_eq!(offsets(&found(&dataset, only).await), [3]);
}

#[tokio::test]
async fn what_a_redrive_has_produced_is_known_by_its_header() {
    let store = memory();
    let dataset = dataset(&store).await;
    land(&dataset, 0, &["bad", "bad"], None).await;
    let mut letter = found(&dataset, WhichLetters::default()).await.remove(1);
    letter.record.headers = vec![
        ("trace".into(), b"7".to_vec()),
        (REDRIVE_HEADER.into(), b"1/9/9".to_vec()),
    ];
    let again = letter.again(4);
    assert_eq!(
        again.headers,
        [
            ("trace".to_owned(), b"7".to_vec()),
            (REDRIVE_HEADER.to_owned(), b"4/0/1".to_vec())
        ]
    );

    // It dies once more, and lands with its headers.
    let mut raw = anabranch_model::RawBatchBuilder::new();
    let headers = again
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), Some(&value[..])));
    raw.push(2, None, None, again.payload.as_deref(), headers);
    let raw = raw.finish(PartitionId(0), OffsetRange::new(Offset(2), Offset(3)));
    let before = dataset.snapshot(None).await.unwrap();
    land(&dataset, 2, &["still bad"], raw.headers).await;
    let snapshot = dataset.snapshot(None).await.unwrap();
    let produced = async |from: &OffsetVector, redrive| redriven_since(&store, &snapshot, from, redrive).await.unwrap();
    let one: Letters = [(PartitionId(0), Offset(1))].into_iter().collect();
    assert_eq!(produced(&before.next, 4).await, one);
    assert!(produced(&before.next, 1).await.is_empty(), "of another redrive");
    assert!(produced(&snapshot.next, 4).await.is_empty(), "before that place");
}
