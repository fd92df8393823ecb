use super::*;
use arrow::array::Array;
use proptest::prelude::*;

fn record() -> impl Strategy<Value = RawRecord> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
    (
        proptest::option::of(bytes()),
        proptest::option::weighted(0.9, bytes()),
        proptest::collection::vec(("[a-zé]{0,5}", bytes()), 0..3),
        proptest::option::of(-5_000_i64..5_000),
    )
        .prop_map(|(key, payload, headers, timestamp_ms)| RawRecord {
            key,
            payload,
            headers,
            timestamp_ms,
        })
}

/// The batch that the shared builder makes of the same records: the oracle.
fn expected(records: &[RawRecord], base: i64, now_ms: i64) -> RawBatch {
    let mut builder = RawBatchBuilder::new();
    for (place, record) in records.iter().enumerate() {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), Some(value.as_slice())))
            .collect();
        builder.push(
            base + place as i64,
            Some(record.timestamp_ms.unwrap_or(now_ms) * 1_000),
            record.key.as_deref(),
            record.payload.as_deref(),
            headers,
        );
    }
    builder.finish(
        PartitionId(3),
        OffsetRange::new(Offset(base), Offset(base + records.len() as i64)),
    )
}

fn assert_same(got: &RawBatch, want: &RawBatch) {
    assert_eq!(got.range, want.range);
    assert_eq!(got.offsets, want.offsets);
    assert_eq!(got.timestamps, want.timestamps);
    assert_eq!(got.keys, want.keys);
    assert_eq!(got.payloads, want.payloads);
    let headers = |batch: &RawBatch| batch.headers.clone().unwrap_or_else(|| empty_headers(batch.len()));
    assert_eq!(&headers(got), &headers(want));
}

fn encode(records: &[RawRecord]) -> EncodedBlock {
    let mut builder = BlockBuilder::default();
    for record in records {
        builder.push(record, 7);
    }
    builder.encode()
}

proptest! {
    #[test]
    fn any_slice_of_a_block_equals_the_records(
        records in proptest::collection::vec(record(), 1..40), a in 0_usize..40, b in 0_usize..40, base in 0_i64..1 << 40,
    ) {
        let (a, b) = (a.min(b) % records.len(), a.max(b) % records.len());
        let (a, b) = (a.min(b), a.max(b) + 1);
        let encoded = encode(&records);
        prop_assert_eq!(encoded.records as usize, records.len());
        let block = Block::decode(encoded.bytes, base + records.len() as i64 - 1).unwrap();
        prop_assert_eq!(block.base(), base);
        let slice = block.slice(PartitionId(3), base + a as i64, base + b as i64).unwrap();
        assert_same(&slice, &expected(&records[a..b], base + a as i64, 7));
    }

    #[test]
    fn appended_builders_and_joined_slices_equal_the_records(
        records in proptest::collection::vec(record(), 2..40), cut in 1_usize..40,
    ) {
        let cut = cut % (records.len() - 1) + 1;
        let (head, tail) = records.split_at(cut);
        let mut builder = BlockBuilder::default();
        let mut second = BlockBuilder::default();
        head.iter().for_each(|record| builder.push(record, 7));
        tail.iter().for_each(|record| second.push(record, 7));
        builder.append(second);
        let whole = Block::decode(builder.encode().bytes, records.len() as i64 - 1).unwrap();
        let want = expected(&records, 0, 7);
        assert_same(&whole.slice(PartitionId(3), 0, records.len() as i64).unwrap(), &want);

        let first = Block::decode(encode(head).bytes, cut as i64 - 1).unwrap();
        let second = Block::decode(encode(tail).bytes, records.len() as i64 - 1).unwrap();
        let joined = join(vec![
            first.slice(PartitionId(3), 0, cut as i64).unwrap(),
            second.slice(PartitionId(3), cut as i64, records.len() as i64).unwrap(),
        ]).unwrap();
        assert_same(&joined, &want);
    }

    #[test]
    fn a_damaged_block_is_an_error_not_a_panic(
        records in proptest::collection::vec(record(), 1..10), place in 0_usize..500, value in any::<u8>(), cut in 0_usize..500,
    ) {
        let whole = encode(&records).bytes;
        let mut bytes = whole.to_vec();
        let place = place % bytes.len();
        bytes[place] = value;
        bytes.truncate(whole.len() - cut % whole.len());
        if let Ok(block) = Block::decode(Bytes::from(bytes), 1_000_000) {
            let _ = block.slice(PartitionId(0), block.base(), block.end());
        }
    }
}

#[test]
fn a_slice_shares_the_blocks_memory() {
    let records: Vec<_> = (0..100)
        .map(|n| RawRecord {
            payload: Some(format!("payload {n}").into_bytes()),
            ..Default::default()
        })
        .collect();
    let bytes = encode(&records).bytes;
    let inside = bytes.as_ptr_range();
    let block = Block::decode(bytes.clone(), 99).unwrap();
    let batch = block.slice(PartitionId(0), 40, 60).unwrap();
    assert!(inside.contains(&batch.payloads.value(0).as_ptr()));
    assert_eq!(batch.payloads.len(), 20);
}

#[test]
fn records_that_fit_are_counted_by_number_and_by_bytes() {
    let records: Vec<_> = (0..10)
        .map(|_| RawRecord {
            payload: Some(vec![b'x'; 10]),
            ..Default::default()
        })
        .collect();
    let block = Block::decode(encode(&records).bytes, 19).unwrap();
    assert_eq!(block.fit(12, 100, 1_000), (20, 80));
    assert_eq!(block.fit(12, 3, 1_000), (15, 30));
    assert_eq!(block.fit(12, 100, 35), (15, 30));
    assert_eq!(
        block.fit(12, 100, 1),
        (13, 10),
        "a record larger than the limit comes alone"
    );
    assert_eq!(block.fit(12, 0, 0), (13, 10));
}
