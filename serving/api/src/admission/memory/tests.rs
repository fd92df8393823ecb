use anabranch_runtime::ByteSize;

use super::*;

fn memory(query: u64, all: u64) -> Arc<Memory> {
    Memory::new(&Serving {
        query_memory: ByteSize(query),
        total_query_memory: ByteSize(all),
        ..Serving::default()
    })
}

#[test]
fn a_query_has_its_own_limit_and_all_have_one_together() {
    let memory = memory(100, 150);
    let (first, second) = (memory.of_a_query(), memory.of_a_query());
    let held = QueryMemory::new(&first, "first");
    held.take(100).unwrap();
    let error = held.take(1).unwrap_err();
    assert_eq!(error.kind(), anabranch_model::ErrorKind::Invalid, "{error}");
    assert_eq!(memory.used.load(Ordering::Relaxed), 100);

    let other = QueryMemory::new(&second, "second");
    other.take(50).unwrap();
    let error = other.take(50).unwrap_err();
    assert!(matches!(error, Error::MemoryBusy { limit_bytes: 150 }), "{error}");
    drop((held, first));
    assert_eq!(memory.used.load(Ordering::Relaxed), 50);
    other.take(50).unwrap();
    drop((other, second));
    assert_eq!(memory.used.load(Ordering::Relaxed), 0);
}
